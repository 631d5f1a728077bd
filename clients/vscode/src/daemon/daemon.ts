/** The daemon of this window: started or attached to once, started again when it dies, asked by everybody. */

import * as vscode from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  ResponseError,
  RevealOutputChannelOn,
  State as ClientState,
  WorkDoneProgress,
  type LanguageClientOptions,
  type Middleware,
} from "vscode-languageclient/node";
import { Trouble, sentence } from "../errors.js";
import type { InitializationOptions, Notifications, Requests } from "../protocol.gen.js";
import type { Disposable, Wire } from "../wire.js";
import type { Attached } from "./attach.js";
import { checkProtocol } from "./protocol.js";
import { Restarts } from "./restarts.js";

export type DaemonState =
  | { kind: "stopped" }
  | { kind: "starting" }
  | { kind: "running"; version: string }
  | { kind: "failed"; reason: string };

/** What differs from one start to the next. */
export interface Start {
  attached: Attached;
  options: InitializationOptions;
  /** The command that mends a daemon that is too old. */
  upgrade: string;
}

/** A daemon answers in a moment; what listens at a port may be something else. */
const ANSWER_MS = 20_000;
const SELECTOR = ["file", "untitled", "vscode-vfs", "vscode-notebook-cell"].map((scheme) => ({ scheme }));

export class Daemon implements Wire, vscode.Disposable {
  #state: DaemonState = { kind: "stopped" };
  #client: LanguageClient | undefined;
  #attached: Attached | undefined;
  #starting: Promise<LanguageClient> | undefined;
  #stopping: Promise<void> | undefined;
  #waiting: NodeJS.Timeout | undefined;
  readonly #restarts = new Restarts();
  readonly #changed = new vscode.EventEmitter<DaemonState>();
  readonly #listeners = new Map<string, Set<(params: unknown) => void>>();

  readonly onDidChangeState = this.#changed.event;

  constructor(
    private readonly prepare: () => Promise<Start>,
    private readonly middleware: Middleware,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  get state(): DaemonState {
    return this.#state;
  }

  /** Process id of a daemon that was started here, for tests and diagnostics. */
  async pid(): Promise<number> {
    return (await this.request("ollm/status", {})).pid;
  }

  async request<M extends keyof Requests>(
    method: M,
    params: Requests[M]["params"],
    token?: vscode.CancellationToken,
  ): Promise<Requests[M]["result"]> {
    if (this.#state.kind === "failed") {
      throw new Trouble(this.#state.reason); // whoever asks in the background must not start it again and again
    }
    const client = await this.start();
    try {
      // A token that is `undefined` would be sent as a second, positional parameter.
      return await (token ? client.sendRequest(method, params, token) : client.sendRequest(method, params));
    } catch (error) {
      if (error instanceof ResponseError) {
        throw error;
      }
      throw new Trouble(
        vscode.l10n.t("The daemon ended before it answered."),
        vscode.l10n.t("Try again; the log has the rest."),
      );
    }
  }

  /** Tell something, if anybody is there to hear it. */
  tell<N extends keyof Notifications>(method: N, params: Notifications[N]): void {
    if (this.#state.kind === "running") {
      void this.#client?.sendNotification(method, params);
    }
  }

  on<N extends keyof Notifications>(method: N, listener: (params: Notifications[N]) => void): Disposable {
    const listeners = this.#listeners.get(method) ?? new Set<(params: unknown) => void>();
    if (listeners.size === 0) {
      this.#listeners.set(method, listeners);
      this.#client?.onNotification(method, (params: unknown) => this.#hear(method, params));
    }
    const heard = listener as (params: unknown) => void;
    listeners.add(heard);
    return { dispose: () => listeners.delete(heard) };
  }

  /** Progress of a request that was sent with this token. */
  onProgress(token: string, listener: (value: { message?: string; percentage?: number }) => void): Disposable {
    return this.#client?.onProgress(WorkDoneProgress.type, token, listener) ?? { dispose: () => undefined };
  }

  /** The running daemon; many callers start one. */
  async start(): Promise<LanguageClient> {
    await this.#stopping;
    if (this.#client && this.#state.kind === "running") {
      return this.#client;
    }
    this.#starting ??= this.#open().finally(() => (this.#starting = undefined));
    return this.#starting;
  }

  /** End it and start it anew; a restart that is asked for during another is that one. */
  async restart(): Promise<void> {
    this.#restarts.forget();
    await this.stop();
    await this.start();
  }

  async stop(): Promise<void> {
    clearTimeout(this.#waiting);
    this.#stopping ??= this.#close().finally(() => (this.#stopping = undefined));
    await this.#stopping;
  }

  dispose(): void {
    void this.stop();
    this.#changed.dispose();
  }

  async #open(): Promise<LanguageClient> {
    clearTimeout(this.#waiting);
    this.#become({ kind: "starting" });
    let attached: Attached | undefined;
    let client: LanguageClient | undefined;
    try {
      const start = await this.prepare();
      ({ attached } = start);
      client = this.#newClient(start);
      this.#attached = attached;
      await Promise.race([client.start(), silence(attached)]);
      checkProtocol(client.initializeResult?.capabilities.experimental, start.upgrade);
      for (const method of this.#listeners.keys()) {
        client.onNotification(method, (params: unknown) => this.#hear(method, params));
      }
      this.#client = client;
      const version = client.initializeResult?.serverInfo?.version ?? "";
      this.#become({ kind: "running", version });
      void this.#watch(client, attached);
      return client;
    } catch (error) {
      attached?.end();
      void client?.dispose().catch(() => undefined);
      const reason = sentence(error);
      this.log.error(reason);
      this.#become({ kind: "failed", reason });
      throw error instanceof Trouble ? error : new Trouble(reason);
    }
  }

  #newClient(start: Start): LanguageClient {
    const { attached } = start;
    const options: LanguageClientOptions = {
      documentSelector: SELECTOR,
      initializationOptions: start.options,
      middleware: this.middleware,
      outputChannel: this.log,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => ({ action: CloseAction.DoNotRestart, handled: true }),
      },
    };
    const streams = { reader: attached.reader, writer: attached.writer, detached: true };
    return new LanguageClient("ollm", "ollm", () => Promise.resolve(streams), options);
  }

  /** Wait until it ends; if nobody asked for that, start it again. */
  async #watch(client: LanguageClient, attached: Attached): Promise<void> {
    await attached.gone;
    if (this.#client !== client || this.#stopping) {
      return;
    }
    this.#client = undefined;
    void client.dispose().catch(() => undefined);
    const delay = this.#restarts.next();
    if (delay === undefined) {
      const reason = vscode.l10n.t("The daemon ended several times in a row. {0}", attached.lastWords());
      this.log.error(reason);
      this.#become({ kind: "failed", reason });
      return;
    }
    this.log.warn(`The daemon ended; starting it again in ${delay} ms. ${attached.lastWords()}`);
    this.#become({ kind: "starting" });
    this.#waiting = setTimeout(() => void this.start().catch(() => undefined), delay);
  }

  async #close(): Promise<void> {
    if (this.#starting) {
      this.#attached?.end(); // one that never answers must not keep the next one waiting
      await this.#starting.catch(() => undefined);
    }
    const client = this.#client;
    this.#client = undefined;
    if (client?.state === ClientState.Running) {
      await client.stop().catch(() => undefined);
    }
    await client?.dispose().catch(() => undefined);
    this.#attached?.end();
    this.#attached = undefined;
    this.#become({ kind: "stopped" });
  }

  #hear(method: string, params: unknown): void {
    for (const listener of this.#listeners.get(method) ?? []) {
      listener(params);
    }
  }

  #become(state: DaemonState): void {
    this.#state = state;
    this.#changed.fire(state);
  }
}

/** Rejects when the daemon ends, or says nothing for too long, before it has answered. */
async function silence(attached: Attached): Promise<never> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(vscode.l10n.t("The daemon did not answer.")), ANSWER_MS);
  });
  const ended = attached.gone.then(() => vscode.l10n.t("The daemon ended before it answered."));
  const what = await Promise.race([late, ended]);
  clearTimeout(timer);
  throw new Trouble(`${what} ${attached.lastWords()}`.trim());
}
