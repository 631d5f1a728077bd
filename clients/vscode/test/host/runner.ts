/** Mocha inside the extension host. VS Code calls `run` of the bundle; the report goes into a file. */

import { readFileSync, readdirSync } from "node:fs";
import Mocha from "mocha";
import * as vscode from "vscode";
import type { Api } from "../../src/extension.js";

export async function runMocha(define: () => void): Promise<void> {
  const mocha = new Mocha({
    ui: "bdd",
    timeout: 60_000,
    reporter: "json",
    reporterOptions: { output: process.env["OLLM_REPORT"] ?? "" },
  });
  mocha.suite.emit("pre-require", globalThis, "", mocha);
  define();
  await new Promise<void>((resolve, reject) => {
    mocha.run((failures) => (failures ? reject(new Error(`${failures} failed`)) : resolve()));
  });
}

/** The extension, as it was installed. */
export async function extension(): Promise<Api> {
  const found = vscode.extensions.getExtension<Api>("ollm.ollm-vscode");
  if (!found) {
    throw new Error("the extension is not installed");
  }
  const api = await found.activate();
  await until(() => api.daemon.state.kind !== "starting", "the daemon runs, or cannot");
  return api;
}

/** Process id of the daemon. */
export async function pidOf(api: Api): Promise<number> {
  return (await api.daemon.request("ollm/status", {})).pid;
}

/** Daemons that this window has started and that live. */
export function daemons(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
        const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        const isDaemon = readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("ollm_daemon\0--stdio");
        return isDaemon && state !== "Z" && Number(parent) === process.pid;
      } catch {
        return false; // it ended meanwhile
      }
    })
    .map(Number);
}

type Falsy = false | undefined | null | "" | 0;

/** Wait for what an event or a process brings about. */
export async function until<T>(ask: () => T | Promise<T>, what: string, limitMs = 20_000): Promise<Exclude<T, Falsy>> {
  const end = Date.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (answer) {
      return answer as Exclude<T, Falsy>;
    }
    if (Date.now() > end) {
      throw new Error(`waited in vain: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function set(key: string, value: unknown, target = vscode.ConfigurationTarget.Global): Promise<void> {
  await vscode.workspace.getConfiguration("ollm").update(key, value, target);
}

/** A value that the daemon says counts, and the layer it is from. */
export async function effective(api: Api, key: string): Promise<{ value: unknown; layer: string } | undefined> {
  const { settings } = await api.daemon.request("ollm/config/get", {});
  const found = settings.find((setting) => setting.key === key);
  return found && { value: found.value, layer: found.origin.layer };
}

export async function newDocument(content: string, language = "python"): Promise<vscode.TextEditor> {
  const document = await vscode.workspace.openTextDocument({ language, content });
  const editor = await vscode.window.showTextDocument(document);
  const end = document.positionAt(content.length);
  editor.selection = new vscode.Selection(end, end);
  return editor;
}
