/** Which documents the daemon is told of: not those that nothing is offered in, and that no frame may hold. */

import type * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";

/** Characters; the daemon offers nothing in longer ones, and a frame of 64 MiB may not hold them. */
export const LONGEST = 5_000_000;

export class Documents {
  readonly #left = new Set<string>();

  /** Whether the daemon knows it. */
  has(document: vscode.TextDocument): boolean {
    return !this.#left.has(document.uri.toString());
  }

  /** One that was too long when it was opened stays unknown until it is opened anew. */
  get middleware(): Middleware {
    return {
      didOpen: async (document, next) => {
        const uri = document.uri.toString();
        if (lengthOf(document) > LONGEST) {
          this.#left.add(uri);
          return;
        }
        this.#left.delete(uri);
        await next(document);
      },
      didChange: async (change, next) => {
        if (this.has(change.document)) {
          await next(change);
        }
      },
      didClose: async (document, next) => {
        if (!this.#left.delete(document.uri.toString())) {
          await next(document);
        }
      },
    };
  }
}

/** Without making a text of it. */
function lengthOf(document: vscode.TextDocument): number {
  return document.offsetAt(document.lineAt(document.lineCount - 1).range.end);
}
