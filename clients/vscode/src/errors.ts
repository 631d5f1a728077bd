/** What a person reads when something failed. */

import { ERROR_CODES, type ErrorData } from "./protocol.gen.js";

/** A failure whose message is a sentence for the user, and which may know the way out. */
export class Trouble extends Error {
  constructor(
    message: string,
    readonly hint = "",
  ) {
    super(message);
    this.name = "Trouble";
  }
}

/** One that the user has read already. */
export class ToldTrouble extends Trouble {}

/** The cause and the next step, in at most two sentences. */
export function sentence(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  const hint = error instanceof Trouble ? error.hint : dataOf(error)?.hint;
  const message = error.message.trim();
  return hint ? `${/[.!?]$/.test(message) ? message : `${message}.`} ${hint}` : message;
}

/** Whether the user, or VS Code in the user's name, stopped it. */
export function wasCancelled(error: unknown): boolean {
  return error instanceof Error && (codeOf(error) === ERROR_CODES.requestCancelled || error.name === "Canceled");
}

/** `data` of a provider's failure. */
export function dataOf(error: unknown): ErrorData | undefined {
  const data: unknown = error instanceof Error && "data" in error ? error.data : undefined;
  return typeof data === "object" && data !== null && "kind" in data ? (data as ErrorData) : undefined;
}

/** The code of a JSON-RPC error. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
