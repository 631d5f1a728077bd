/** Edit a selection: the model's text streams into the right side of a diff, then it is taken or not. */

import * as vscode from "vscode";
import { codeIn, editMessages } from "../chat/prompts.js";
import { streamText } from "../chat/stream.js";
import { setContext } from "../context.js";
import { Trouble, wasCancelled } from "../errors.js";
import { excludedOf } from "../privacy.js";
import type { Wire } from "../wire.js";

const SCHEME = "ollm-edit";
/** A preview is drawn anew at most so often. */
const REDRAW_MS = 50;

/** One edit that awaits its fate. */
interface Pending {
  document: vscode.TextDocument;
  /** Where what it replaces begins, as the document changes around it; `undefined` once that has changed itself. */
  offset: number | undefined;
  original: string;
  preview: vscode.Uri;
  text: string;
  isWhole: boolean;
  stop: vscode.CancellationTokenSource;
}

export class Edits implements vscode.TextDocumentContentProvider, vscode.Disposable {
  #pending: Pending | undefined;
  #count = 0;
  readonly #changed = new vscode.EventEmitter<vscode.Uri>();
  readonly #registered: vscode.Disposable[];
  readonly onDidChange = this.#changed.event;

  constructor(private readonly wire: Wire) {
    this.#registered = [
      vscode.workspace.registerTextDocumentContentProvider(SCHEME, this),
      vscode.workspace.onDidCloseTextDocument((closed) => {
        if (closed.uri.toString() === this.#pending?.preview.toString()) {
          void this.#forget(this.#pending);
        }
      }),
      vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
        if (this.#pending?.document === document) {
          contentChanges.forEach((change) => this.#move(change));
        }
      }),
    ];
  }

  dispose(): void {
    this.#pending?.stop.cancel();
    vscode.Disposable.from(...this.#registered, this.#changed).dispose();
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    const pending = this.#pending;
    return pending?.preview.toString() === uri.toString() ? whole(pending) : "";
  }

  /** Ask what to do, and show what the model makes of it. */
  async edit(given?: string): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (!editor) {
      throw new Trouble(vscode.l10n.t("There is no file open."), vscode.l10n.t("Open one and select what to change."));
    }
    const { document, selection } = editor;
    const range = selection.isEmpty ? document.lineAt(selection.active.line).range : new vscode.Range(selection.start, selection.end);
    const instruction = given ?? (await vscode.window.showInputBox({ prompt: vscode.l10n.t("What is to change?") }));
    if (!instruction) {
      return;
    }
    await this.reject();
    const name = document.uri.path.split("/").at(-1) ?? "";
    const preview = vscode.Uri.from({ scheme: SCHEME, path: `/${++this.#count}/${name}` });
    const original = document.getText(range);
    const stop = new vscode.CancellationTokenSource();
    const offset = document.offsetAt(range.start);
    const pending: Pending = { document, offset, original, preview, text: original, isWhole: false, stop };
    this.#pending = pending;
    await setContext("editing", true);
    const title = vscode.l10n.t("{0}: edit", name);
    await vscode.commands.executeCommand("vscode.diff", document.uri, preview, title, { preview: false });
    await this.#stream(pending, instruction);
  }

  /** Take it, if what it replaces is still there. */
  async accept(): Promise<void> {
    const pending = this.#pending;
    if (!pending) {
      return;
    }
    const { document, offset, text } = pending;
    if (!pending.isWhole) {
      throw new Trouble(vscode.l10n.t("The edit is still being written."));
    }
    if (offset === undefined) {
      throw new Trouble(
        vscode.l10n.t("The text has changed since the edit was asked for."),
        vscode.l10n.t("Reject the edit, and ask again."),
      );
    }
    const edit = new vscode.WorkspaceEdit();
    edit.replace(document.uri, rangeOf(pending, offset), text);
    if (!(await vscode.workspace.applyEdit(edit))) {
      throw new Trouble(vscode.l10n.t("VS Code could not change the file."), vscode.l10n.t("It may be read-only."));
    }
    await this.#close(pending);
    await vscode.window.showTextDocument(document);
  }

  async reject(): Promise<void> {
    if (this.#pending) {
      await this.#close(this.#pending);
    }
  }

  async #stream(pending: Pending, instruction: string): Promise<void> {
    const { document, original, stop } = pending;
    const range = rangeOf(pending, pending.offset ?? 0);
    const excerpt = {
      path: vscode.workspace.asRelativePath(document.uri),
      language: document.languageId,
      text: original,
      isSelection: true,
    };
    // The selection is handed over; what stands around it only if the file may be seen.
    const uri = document.uri.toString();
    const text = (await excludedOf(this.wire, [uri])).has(uri) ? undefined : document.getText();
    const end = document.offsetAt(range.end);
    const before = text?.slice(0, end - original.length) ?? "";
    const messages = editMessages(instruction, excerpt, before, text?.slice(end) ?? "");
    const show = (answer: string): void => this.#show(pending, codeIn(answer));
    const location = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Editing…") };
    await vscode.window.withProgress(location, async (progress) => {
      try {
        const asked = { messages, minIntervalMs: REDRAW_MS };
        const result = await streamText(this.wire, asked, show, progress, stop.token);
        if (result.message.content.trim() === "") {
          throw new Trouble(vscode.l10n.t("The model had nothing to say."), vscode.l10n.t("Ask in other words."));
        }
        if (result.finishReason === "length") {
          throw new Trouble(
            vscode.l10n.t("The edit was cut: the answer reached its limit of tokens."),
            vscode.l10n.t("Select less, or raise ollm.options.maxTokens."),
          );
        }
        pending.isWhole = true;
        show(result.message.content);
      } catch (error) {
        await this.#close(pending);
        if (!wasCancelled(error)) {
          throw error;
        }
      }
    });
  }

  #show(pending: Pending, text: string): void {
    pending.text = text;
    this.#changed.fire(pending.preview);
  }

  async #close(pending: Pending): Promise<void> {
    const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
    const own = tabs.filter(
      ({ input }) => input instanceof vscode.TabInputTextDiff && input.modified.toString() === pending.preview.toString(),
    );
    await this.#forget(pending);
    await vscode.window.tabGroups.close(own);
  }

  async #forget(pending: Pending): Promise<void> {
    pending.stop.cancel();
    if (this.#pending === pending) {
      this.#pending = undefined;
      await setContext("editing", false);
    }
  }

  /** Follow a change of the document. */
  #move({ rangeOffset, rangeLength, text }: vscode.TextDocumentContentChangeEvent): void {
    const pending = this.#pending;
    if (pending?.offset === undefined || rangeOffset >= pending.offset + pending.original.length) {
      return;
    }
    const isBefore = rangeOffset + rangeLength <= pending.offset;
    pending.offset = isBefore ? pending.offset + text.length - rangeLength : undefined;
    this.#changed.fire(pending.preview);
  }
}

function rangeOf({ document, original }: Pending, offset: number): vscode.Range {
  return new vscode.Range(document.positionAt(offset), document.positionAt(offset + original.length));
}

/** The file as it would be. */
function whole({ document, offset, original, text }: Pending): string {
  const all = document.getText();
  return offset === undefined ? all : all.slice(0, offset) + text + all.slice(offset + original.length);
}
