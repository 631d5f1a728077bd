/** A real daemon, spoken to as the extension does, but without VS Code in between. */

import { EventEmitter } from "node:events";
import type { CancellationToken } from "vscode";
import {
  ProgressType,
  StreamMessageReader,
  StreamMessageWriter,
  createMessageConnection,
  type MessageConnection,
} from "vscode-jsonrpc/node";
import { start, type Attached } from "../../src/daemon/attach.js";
import type { ExperimentalCapability, InitializationOptions, Notifications, Requests } from "../../src/protocol.gen.js";
import type { Disposable, Wire } from "../../src/wire.js";
import { PYTHON } from "./world.js";

export interface Progress {
  kind: "begin" | "report" | "end";
  message?: string;
  percentage?: number;
}

export class Session implements Wire {
  readonly #heard = new EventEmitter();

  private constructor(
    private readonly attached: Attached,
    private readonly connection: MessageConnection,
    /** What the daemon says that it can do. */
    readonly capability: ExperimentalCapability,
  ) {
    connection.onNotification((method: string, params: unknown) => void this.#heard.emit(method, params));
  }

  /** Start a daemon in a folder, which is the workspace too. */
  static async open(folder: string, initializationOptions: InitializationOptions): Promise<Session> {
    const found = { origin: "python" as const, command: PYTHON, args: ["-P", "-m", "ollm_daemon"], version: "" };
    const attached = start(found, folder, "warning", (line) => console.log(line));
    const connection = createMessageConnection(new StreamMessageReader(attached.reader), new StreamMessageWriter(attached.writer));
    connection.listen();
    const params = { processId: process.pid, rootUri: `file://${folder}`, capabilities: {}, initializationOptions };
    const { capabilities } = await connection.sendRequest<{ capabilities: { experimental: { ollm: ExperimentalCapability } } }>("initialize", params);
    await connection.sendNotification("initialized", {});
    return new Session(attached, connection, capabilities.experimental.ollm);
  }

  async request<M extends keyof Requests>(method: M, params: Requests[M]["params"], token?: CancellationToken): Promise<Requests[M]["result"]> {
    return token ? this.connection.sendRequest(method, params, token) : this.connection.sendRequest(method, params);
  }

  on<N extends keyof Notifications>(method: N, listener: (params: Notifications[N]) => void): Disposable {
    this.#heard.on(method, listener);
    return { dispose: () => this.#heard.off(method, listener) };
  }

  /** How many listen. */
  listeners(method: keyof Notifications): number {
    return this.#heard.listenerCount(method);
  }

  /** Progress of a request that was sent with this token. */
  onProgress(token: string, listener: (value: Progress) => void): Disposable {
    return this.connection.onProgress(new ProgressType<Progress>(), token, listener);
  }

  /** End the daemon as a client does. */
  async close(): Promise<void> {
    await this.connection.sendRequest("shutdown");
    await this.connection.sendNotification("exit");
    this.attached.end();
    await this.attached.gone;
    this.connection.dispose();
  }
}
