/** JSON-RPC messages around the types of the contract; the examples are checked against these. */

import type * as ollm from "../../src/protocol.gen.js";

/** `initialize` belongs to the language server protocol; only what concerns us is typed. */
interface Requests extends ollm.Requests {
  initialize: {
    params: { initializationOptions: ollm.InitializationOptions; [lsp: string]: unknown };
    result: {
      capabilities: { experimental: { ollm: ollm.ExperimentalCapability }; [lsp: string]: unknown };
      [lsp: string]: unknown;
    };
  };
}

export interface Request<M extends keyof Requests> {
  jsonrpc: "2.0";
  id: number | string;
  method: M;
  params: Requests[M]["params"];
}

export interface Response<M extends keyof Requests> {
  jsonrpc: "2.0";
  id: number | string;
  result: Requests[M]["result"];
}

export interface Notification<M extends keyof ollm.Notifications> {
  jsonrpc: "2.0";
  method: M;
  params: ollm.Notifications[M];
}

/** The id is `null` when that of the request could not be read. */
export interface Failure {
  jsonrpc: "2.0";
  id: number | string | null;
  error: {
    code: ollm.ErrorCode;
    message: string;
    data?: ollm.ErrorData | { key: string; message: string }[];
  };
}
