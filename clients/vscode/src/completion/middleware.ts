/** What happens around each request for text at the cursor. */

import * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";
import { OfferWatch } from "./feedback.js";

export interface Surroundings {
  /** Whether anything may be offered in a document. */
  offersIn(document: vscode.TextDocument): boolean;
  /** Requests under way now. */
  count(step: 1 | -1): void;
  offered(): void;
}

/** The command of an offer, which VS Code runs when it is accepted. */
export const ACCEPTED = "ollm.completion.accepted";

export function completionMiddleware(watch: OfferWatch, around: Surroundings): Middleware {
  return {
    provideInlineCompletionItems: async (document, position, context, token, next) => {
      if (!around.offersIn(document)) {
        return [];
      }
      around.count(1);
      try {
        const answer = await next(document, position, context, token);
        const items = Array.isArray(answer) ? answer : (answer?.items ?? []);
        const first = items[0];
        if (first && typeof first.insertText === "string" && !token.isCancellationRequested) {
          const start = first.range ? document.offsetAt(first.range.start) : document.offsetAt(position);
          const begun = document.offsetAt(position) - start;
          watch.shown({
            uri: document.uri.toString(),
            offset: start + begun,
            text: first.insertText.slice(begun),
          });
          around.offered();
        }
        return answer;
      } finally {
        around.count(-1);
      }
    },
    executeCommand: (command, args, next) => {
      if (command === ACCEPTED) {
        watch.accepted();
      }
      return next(command, args) as unknown;
    },
  };
}

/** Follow what becomes of offers. */
export function followOffers(watch: OfferWatch): vscode.Disposable {
  return vscode.Disposable.from(
    vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
      for (const { rangeOffset, rangeLength, text } of contentChanges) {
        watch.changed(document.uri.toString(), { offset: rangeOffset, removed: rangeLength, text });
      }
    }),
    vscode.window.onDidChangeTextEditorSelection(({ kind }) => {
      if (kind === vscode.TextEditorSelectionChangeKind.Mouse) {
        watch.left();
      }
    }),
    vscode.window.onDidChangeActiveTextEditor(() => watch.left()),
  );
}
