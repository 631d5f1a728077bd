/** The daemon as everything but `daemon/` sees it: requests and notifications of `/protocol`, typed. */

import type { CancellationToken } from "vscode";
import type { Notifications, Requests } from "./protocol.gen.js";

export interface Disposable {
  dispose(): unknown;
}

export interface Wire {
  /** Rejects with the daemon's error; `errors.ts` makes a sentence of it. */
  request<M extends keyof Requests>(
    method: M,
    params: Requests[M]["params"],
    token?: CancellationToken,
  ): Promise<Requests[M]["result"]>;

  on<N extends keyof Notifications>(method: N, listener: (params: Notifications[N]) => void): Disposable;
}
