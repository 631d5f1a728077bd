/** The status bar item and the menu behind it. */

import * as vscode from "vscode";
import { face, type Facts, type Face } from "./status.js";

const COLORS: Readonly<Record<Face["severity"], string | undefined>> = {
  plain: undefined,
  warning: "statusBarItem.warningBackground",
  error: "statusBarItem.errorBackground",
};

export class Bar implements vscode.Disposable {
  #facts: Facts = {
    daemon: { kind: "stopped" },
    provider: undefined,
    model: undefined,
    unavailable: undefined,
    working: undefined,
    completing: 0,
    paused: false,
    language: undefined,
    offered: true,
  };
  readonly #works = new Map<string, string>();
  readonly #item = vscode.window.createStatusBarItem("ollm.status", vscode.StatusBarAlignment.Right, 100);

  constructor() {
    this.#item.name = "ollm";
    this.#item.command = "ollm.menu";
    this.#draw();
    this.#item.show();
  }

  get facts(): Readonly<Facts> {
    return this.#facts;
  }

  know(facts: Partial<Facts>): void {
    this.#facts = { ...this.#facts, ...facts };
    this.#draw();
  }

  /** What takes long, by whatever takes it; the last one is shown. Called for each delta, so it mostly does nothing. */
  work(key: string, text: string | undefined): void {
    if (this.#works.get(key) === text) {
      return;
    }
    this.#works.delete(key);
    if (text !== undefined) {
      this.#works.set(key, text);
    }
    this.know({ working: [...this.#works.values()].at(-1) });
  }

  dispose(): void {
    this.#item.dispose();
  }

  #draw(): void {
    const { icon, text, detail, severity } = face(this.#facts);
    const color = COLORS[severity];
    this.#item.text = `$(${icon}) ${text}`;
    this.#item.tooltip = detail;
    this.#item.backgroundColor = color === undefined ? undefined : new vscode.ThemeColor(color);
    this.#item.accessibilityInformation = { label: `ollm: ${text}, ${detail}`, role: "button" };
  }
}

/** Title and command of each entry. */
export async function showMenu(facts: Facts): Promise<void> {
  const t = vscode.l10n.t;
  const entries: (vscode.QuickPickItem & { command: string })[] = [
    { label: `$(symbol-misc) ${t("Select model…")}`, description: facts.model ?? "", command: "ollm.selectModel" },
    { label: `$(server) ${t("Select provider…")}`, description: facts.provider ?? "", command: "ollm.selectProvider" },
    facts.paused
      ? { label: `$(play) ${t("Resume text at the cursor")}`, command: "ollm.togglePause" }
      : { label: `$(debug-pause) ${t("Pause text at the cursor")}`, command: "ollm.togglePause" },
    { label: `$(pulse) ${t("Doctor")}`, command: "ollm.doctor" },
    { label: `$(output) ${t("Show log")}`, command: "ollm.showLog" },
    { label: `$(debug-restart) ${t("Restart the daemon")}`, command: "ollm.restart" },
    { label: `$(rocket) ${t("Set up…")}`, command: "ollm.setUp" },
    { label: `$(gear) ${t("Settings")}`, command: "workbench.action.openSettings" },
  ];
  const placeHolder = face(facts).detail;
  const chosen = await vscode.window.showQuickPick(entries, { title: "ollm", placeHolder });
  if (chosen) {
    await vscode.commands.executeCommand(chosen.command, ...(chosen.command.startsWith("workbench") ? ["ollm"] : []));
  }
}
