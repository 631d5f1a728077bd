/** Edit a selection: the model's text streams into the right side of a diff, then it is taken or not. */

import * as vscode from "vscode";
import { codeIn, editMessages } from "../chat/prompts.js";
import { streamChat } from "../chat/stream.js";
import { Trouble, wasCancelled } from "../errors.js";
import type { Wire } from "../wire.js";

const SCHEME = "ollm-edit";
const CONTEXT = "ollm.editing";

/** One edit that awaits its fate. */
interface Pending {
  document: vscode.TextDocument;
  range: vscode.Range;
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
    const pending: Pending = { document, range, original, preview, text: original, isWhole: false, stop };
    this.#pending = pending;
    await vscode.commands.executeCommand("setContext", CONTEXT, true);
    const title = vscode.l10n.t("{0}: edit", name);
    await vscode.commands.executeCommand("vscode.diff", document.uri, preview, title, { preview: true });
    await this.#stream(pending, instruction);
  }

  /** Take it, if what it replaces is still there. */
  async accept(): Promise<void> {
    const pending = this.#pending;
    if (!pending) {
      return;
    }
    const { document, range, original, text } = pending;
    if (!pending.isWhole) {
      throw new Trouble(vscode.l10n.t("The edit is still being written."));
    }
    if (document.getText(range) !== original) {
      throw new Trouble(
        vscode.l10n.t("The text has changed since the edit was asked for."),
        vscode.l10n.t("Undo the change, or ask again."),
      );
    }
    const edit = new vscode.WorkspaceEdit();
    edit.replace(document.uri, range, text);
    await vscode.workspace.applyEdit(edit);
    await this.#close(pending);
    await vscode.window.showTextDocument(document);
  }

  async reject(): Promise<void> {
    if (this.#pending) {
      await this.#close(this.#pending);
    }
  }

  async #stream(pending: Pending, instruction: string): Promise<void> {
    const { document, range, original, stop } = pending;
    const excerpt = {
      path: vscode.workspace.asRelativePath(document.uri),
      language: document.languageId,
      text: original,
      isSelection: true,
    };
    const before = document.getText(new vscode.Range(new vscode.Position(0, 0), range.start));
    const behind = document.getText(new vscode.Range(range.end, document.lineAt(document.lineCount - 1).range.end));
    const messages = editMessages(instruction, excerpt, before, behind);
    let answer = "";
    const location = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Editing…") };
    await vscode.window.withProgress(location, async () => {
      try {
        const result = await streamChat(
          this.wire,
          { messages },
          (delta) => {
            if (delta.kind === "text") {
              answer += delta.text;
              this.#show(pending, codeIn(answer));
            }
          },
          stop.token,
        );
        if (result.message.content.trim() === "") {
          throw new Trouble(vscode.l10n.t("The model had nothing to say."), vscode.l10n.t("Ask in other words."));
        }
        pending.isWhole = true;
        this.#show(pending, codeIn(result.message.content));
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
      await vscode.commands.executeCommand("setContext", CONTEXT, false);
    }
  }
}

/** The file as it would be. */
function whole({ document, range, text }: Pending): string {
  const all = document.getText();
  return all.slice(0, document.offsetAt(range.start)) + text + all.slice(document.offsetAt(range.end));
}
