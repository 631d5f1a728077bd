/** The doctor's document, and diagnostics for a bug report. */

import * as vscode from "vscode";
import type { Daemon } from "./daemon/daemon.js";
import { diagnostics, examine } from "./doctor.js";

const SCHEME = "ollm-doctor";
const DOCUMENT = vscode.Uri.from({ scheme: SCHEME, path: "/doctor.md" });

export class DoctorDocument implements vscode.TextDocumentContentProvider, vscode.Disposable {
  #text = "";
  readonly #changed = new vscode.EventEmitter<vscode.Uri>();
  readonly #registered = vscode.workspace.registerTextDocumentContentProvider(SCHEME, this);
  readonly onDidChange = this.#changed.event;

  constructor(private readonly daemon: Daemon) {}

  provideTextDocumentContent(): string {
    return this.#text;
  }

  /** Try every server, then show what was found. */
  async open(): Promise<void> {
    const title = vscode.l10n.t("Looking at all servers…");
    const location = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
    await vscode.window.withProgress(location, async (progress, token) => {
      this.#text = await examine(this.daemon, (message) => progress.report({ message }), token);
    });
    this.#changed.fire(DOCUMENT);
    await vscode.workspace.openTextDocument(DOCUMENT);
    await vscode.commands.executeCommand("markdown.showPreview", DOCUMENT);
  }

  dispose(): void {
    vscode.Disposable.from(this.#registered, this.#changed).dispose();
  }
}

export async function copyDiagnostics(daemon: Daemon, extension: string): Promise<void> {
  const isUp = daemon.state.kind === "running";
  const status = isUp ? await daemon.request("ollm/status", {}) : undefined;
  const settings = isUp ? (await daemon.request("ollm/config/get", {})).settings : [];
  const versions = { extension, vscode: vscode.version, system: `${process.platform} ${process.arch}` };
  const told = status ? `${status.version}, protocol ${status.protocolVersion}` : daemon.state.kind;
  await vscode.env.clipboard.writeText(diagnostics(versions, told, status, settings));
  void vscode.window.showInformationMessage(vscode.l10n.t("Copied, without keys and prompts. Look it over before you share it."));
}
