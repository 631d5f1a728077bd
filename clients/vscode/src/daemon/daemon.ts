/** The daemon of this window: started or attached to once, started again when it dies, asked by everybody. */

import * as vscode from "vscode";
import { ToldTrouble, Trouble, codeOf, sentence } from "../errors.js";
import { ERROR_CODES, type InitializationOptions, type Notifications, type Requests } from "../protocol.gen.js";
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
  /** What mends a daemon that is too old. */
  upgrade: string;
}

/** What is used of a language client. */
export interface Client {
  isRunning(): boolean;
  readonly initializeResult:
    | { capabilities: { experimental?: unknown }; serverInfo?: { name: string; version?: string } | undefined }
    | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
  dispose(): Promise<void>;
  sendRequest<R>(method: string, params: unknown, token?: vscode.CancellationToken): Promise<R>;
  sendNotification(method: string, params: unknown): Promise<void>;
  onNotification(method: string, listener: Listener): Disposable;
  onWorkDone(token: string, listener: (progress: Progress) => void): Disposable;
}

export interface Progress {
  message?: string;
  percentage?: number;
}

type Listener = (params: unknown) => void;

/** A daemon answers in a moment; what listens at a port may be something else. */
const ANSWER_MS = 20_000;
/** Codes of the daemon's own answers; others are the client library's, about a connection that is gone. */
const ANSWERS: ReadonlySet<unknown> = new Set(Object.values(ERROR_CODES));

export class Daemon implements Wire, vscode.Disposable {
  #state: DaemonState = { kind: "stopped" };
  #client: Client | undefined;
  #attached: Attached | undefined;
  #starting: Promise<Client> | undefined;
  #stopping: Promise<void> | undefined;
  /** Ends the wait before a start. */
  #endPause: () => void = () => undefined;
  /** Why nobody may start it now. */
  #held: string | undefined;
  /** Counts stops: a start that was under way before one is not carried on. */
  #epoch = 0;
  readonly #restarts = new Restarts();
  readonly #changed = new vscode.EventEmitter<DaemonState>();
  readonly #listeners = new Map<string, Set<Listener>>();

  readonly onDidChangeState = this.#changed.event;

  constructor(
    private readonly prepare: () => Promise<Start>,
    private readonly newClient: (start: Start) => Client,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  get state(): DaemonState {
    return this.#state;
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
      if (ANSWERS.has(codeOf(error))) {
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
      this.#client?.sendNotification(method, params).catch(() => undefined);
    }
  }

  on<N extends keyof Notifications>(method: N, listener: (params: Notifications[N]) => void): Disposable {
    const listeners = this.#listeners.get(method) ?? new Set<Listener>();
    if (!this.#listeners.has(method)) {
      this.#listeners.set(method, listeners);
      this.#client?.onNotification(method, (params: unknown) => this.#hear(method, params));
    }
    const heard = listener as Listener;
    listeners.add(heard);
    return { dispose: () => listeners.delete(heard) };
  }

  /** Progress of a request that is about to be sent with this token. */
  async onProgress(token: string, listener: (progress: Progress) => void): Promise<Disposable> {
    return (await this.start()).onWorkDone(token, listener);
  }

  /**
   * The running daemon; many callers start one, or wait for one that is to be started.
   *
   * @throws Trouble It cannot be started; listeners of the state have heard why.
   */
  async start(): Promise<Client> {
    while (this.#stopping) {
      await this.#stopping;
    }
    if (this.#held !== undefined) {
      throw new Trouble(this.#held);
    }
    if (this.#client && this.#state.kind === "running") {
      return this.#client;
    }
    return this.#starting ?? this.#startAfter(Promise.resolve());
  }

  /** End it and start it anew. Of several at once the last one counts, and all wait for it. */
  async restart(): Promise<void> {
    this.#restarts.forget();
    await this.stop();
    try {
      await this.start();
    } catch (error) {
      if (!(error instanceof Abandoned)) {
        throw error;
      }
      await this.start();
    }
  }

  /** End it. When this returns its process is gone, or was killed. */
  async stop(): Promise<void> {
    this.#stopping ??= this.#close().finally(() => (this.#stopping = undefined));
    await this.#stopping;
  }

  /** Stopped while something is done to it, and started afterwards, however that went. */
  async without<T>(why: string, act: () => Promise<T>): Promise<T> {
    if (this.#held !== undefined) {
      throw new Trouble(this.#held);
    }
    this.#held = why;
    try {
      await this.stop();
      return await act();
    } finally {
      this.#held = undefined;
      await this.restart().catch(() => undefined);
    }
  }

  dispose(): void {
    this.#held = vscode.l10n.t("The window is being closed.");
    void this.stop();
    this.#changed.dispose();
  }

  #startAfter(pause: Promise<void>): Promise<Client> {
    const epoch = this.#epoch;
    const starting = pause
      .then(() => (epoch === this.#epoch ? this.#open() : Promise.reject(new Abandoned())))
      .finally(() => {
        if (this.#starting === starting) {
          this.#starting = undefined;
        }
      });
    this.#starting = starting;
    return starting;
  }

  async #open(): Promise<Client> {
    this.#become({ kind: "starting" });
    const epoch = this.#epoch;
    let client: Client | undefined;
    let attached: Attached | undefined;
    try {
      const start = await this.prepare();
      ({ attached } = start);
      this.#attached = attached;
      if (epoch !== this.#epoch) {
        throw new Abandoned();
      }
      client = this.newClient(start);
      await Promise.race([client.start().catch(onlyAnswers), silence(attached)]);
      checkProtocol(client.initializeResult?.capabilities.experimental, start.upgrade);
      for (const method of this.#listeners.keys()) {
        client.onNotification(method, (params: unknown) => this.#hear(method, params));
      }
      this.#client = client;
      this.#become({ kind: "running", version: client.initializeResult?.serverInfo?.version ?? "" });
      void this.#watch(client, attached);
      return client;
    } catch (error) {
      attached?.end();
      client?.dispose().catch(() => undefined);
      if (epoch !== this.#epoch) {
        throw new Abandoned();
      }
      const reason = sentence(error);
      this.#fail(reason);
      throw this.#hasFailed() ? new ToldTrouble(reason) : new Trouble(reason);
    }
  }

  /** Wait until it ends; if nobody asked for that, start it again. */
  async #watch(client: Client, attached: Attached): Promise<void> {
    await attached.gone;
    if (this.#client === client && !this.#stopping) {
      this.#client = undefined;
      client.dispose().catch(() => undefined);
      this.#startLater(vscode.l10n.t("The daemon ended several times in a row. {0}", attached.lastWords()).trim());
    }
  }

  /** A first start that fails is told of; a later one, as of a service that is being restarted, is tried again. */
  #fail(reason: string): void {
    if (this.#restarts.isTrying) {
      this.#startLater(reason);
    } else {
      this.log.error(reason);
      this.#become({ kind: "failed", reason });
    }
  }

  #startLater(reason: string): void {
    const delay = this.#restarts.next();
    if (delay === undefined) {
      this.#restarts.forget();
      this.log.error(reason);
      this.#become({ kind: "failed", reason });
      return;
    }
    this.log.warn(`${reason} Starting it in ${delay} ms.`);
    this.#become({ kind: "starting" });
    const pause = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#startAfter(pause).catch(() => undefined);
  }

  async #close(): Promise<void> {
    this.#epoch++;
    const attached = this.#attached;
    this.#endPause();
    if (this.#starting) {
      attached?.end(); // one that never answers must not keep the next one waiting
      await this.#starting.catch(() => undefined);
    }
    const client = this.#client;
    this.#client = undefined;
    if (client?.isRunning()) {
      await client.stop().catch(() => undefined);
    }
    await client?.dispose().catch(() => undefined);
    this.#attached?.end();
    await this.#attached?.gone;
    this.#attached = undefined;
    this.#become({ kind: "stopped" });
  }

  #hasFailed(): boolean {
    return this.#state.kind === "failed";
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

/** A start that a stop came between. */
class Abandoned extends Trouble {
  constructor() {
    super(vscode.l10n.t("The daemon was stopped."));
  }
}

/** What a client says of a connection that is gone tells less than the daemon's last words, which `silence` waits for. */
async function onlyAnswers(error: unknown): Promise<void> {
  if (ANSWERS.has(codeOf(error))) {
    throw error;
  }
  return new Promise(() => undefined);
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
