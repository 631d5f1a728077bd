/** What stands for VS Code's language client around a daemon: one that speaks to it, and one that does what a test says. */

import { PassThrough } from "node:stream";
import type { CancellationToken } from "vscode";
import {
  ProgressType,
  StreamMessageReader,
  StreamMessageWriter,
  createMessageConnection,
  type MessageConnection,
} from "vscode-jsonrpc/node";
import type { Attached } from "../../src/daemon/attach.js";
import type { Client, Progress, Start } from "../../src/daemon/daemon.js";
import { PROTOCOL_VERSION } from "../../src/protocol.gen.js";
import type { Disposable } from "../../src/wire.js";

type Initialized = NonNullable<Client["initializeResult"]>;

/** Speaks the protocol, without VS Code. As its client does, it gives up what nobody will answer when the streams end. */
export class DirectClient implements Client {
  initializeResult: Client["initializeResult"];
  readonly #connection: MessageConnection;
  #isRunning = false;

  constructor(private readonly started: Start) {
    const { reader, writer } = started.attached;
    this.#connection = createMessageConnection(new StreamMessageReader(reader), new StreamMessageWriter(writer));
    this.#connection.onClose(() => this.#end());
  }

  isRunning(): boolean {
    return this.#isRunning;
  }

  async start(): Promise<void> {
    this.#connection.listen();
    const params = { processId: process.pid, rootUri: null, capabilities: {}, initializationOptions: this.started.options };
    this.initializeResult = await this.#connection.sendRequest<Initialized>("initialize", params);
    await this.#connection.sendNotification("initialized", {});
    this.#isRunning = true;
  }

  async stop(): Promise<void> {
    await this.#connection.sendRequest("shutdown");
    await this.#connection.sendNotification("exit");
    this.#end();
  }

  dispose(): Promise<void> {
    this.#end();
    return Promise.resolve();
  }

  /** A token that is given is sent on, even if it is `undefined`. */
  async sendRequest<R>(method: string, params: unknown, ...token: [CancellationToken?]): Promise<R> {
    return this.#connection.sendRequest(method, params, ...token);
  }

  async sendNotification(method: string, params: unknown): Promise<void> {
    await this.#connection.sendNotification(method, params);
  }

  onNotification(method: string, listener: (params: unknown) => void): Disposable {
    return this.#connection.onNotification(method, listener);
  }

  onWorkDone(token: string, listener: (progress: Progress) => void): Disposable {
    return this.#connection.onProgress(new ProgressType<Progress>(), token, listener);
  }

  #end(): void {
    this.#isRunning = false;
    this.#connection.dispose();
  }
}

/** A daemon that is there until it dies, or is ended and has had time to leave. */
export class ScriptedDaemon {
  isGone = false;
  readonly attached: Attached;
  #die = (): void => undefined;

  constructor(lastWords = "") {
    const gone = new Promise<void>((resolve) => (this.#die = resolve));
    const [reader, writer] = [new PassThrough(), new PassThrough()];
    this.attached = { reader, writer, gone, lastWords: () => lastWords, end: () => void setImmediate(() => this.die()) };
  }

  die(): void {
    this.isGone = true;
    this.#die();
  }
}

/** Answers `initialize` and nothing else, unless the test overwrites that. */
export class ScriptedClient implements Client {
  initializeResult: Client["initializeResult"] = {
    capabilities: { experimental: { ollm: { protocolVersion: PROTOCOL_VERSION } } },
    serverInfo: { name: "ollm-daemon", version: "1.2.3" },
  };
  isDisposed = false;
  readonly sent: [string, unknown][] = [];

  isRunning(): boolean {
    return false;
  }

  start(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  dispose(): Promise<void> {
    this.isDisposed = true;
    return Promise.resolve();
  }

  sendRequest<R>(method: string, params: unknown): Promise<R> {
    this.sent.push([method, params]);
    return new Promise<R>(() => undefined);
  }

  sendNotification(method: string, params: unknown): Promise<void> {
    this.sent.push([method, params]);
    return Promise.resolve();
  }

  onNotification(): Disposable {
    return { dispose: () => undefined };
  }

  onWorkDone(): Disposable {
    return { dispose: () => undefined };
  }
}
