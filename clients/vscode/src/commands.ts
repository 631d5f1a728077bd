/** What each command of the manifest does. A command that fails says so in a sentence. */

import * as vscode from "vscode";
import { showMenu, type Bar } from "./bar.js";
import type { Daemon } from "./daemon/daemon.js";
import type { Preparation } from "./daemon/prepare.js";
import { writeCommitMessage } from "./edits/commit.js";
import type { Edits } from "./edits/edit.js";
import { sentence, wasCancelled } from "./errors.js";
import type { Follower } from "./follow.js";
import type { Keys } from "./keys.js";
import type { ModelActions } from "./models/actions.js";
import { pickProvider, selectModel, selectProvider } from "./picks.js";
import { copyDiagnostics, type DoctorDocument } from "./report.js";
import { setUp } from "./setup.js";

export interface Parts {
  daemon: Daemon;
  preparation: Preparation;
  follower: Follower;
  bar: Bar;
  keys: Keys;
  actions: ModelActions;
  edits: Edits;
  doctor: DoctorDocument;
  log: vscode.LogOutputChannel;
  version: string;
}

type Command = (...args: never[]) => unknown;

/** For a first try of what is offered. */
const SAMPLE = "def fibonacci(n):\n    ";
const QUESTION = "Write one sentence about the sea.";

export function registerCommands(parts: Parts): vscode.Disposable {
  const registered = Object.entries(commands(parts)).map(([name, act]) =>
    vscode.commands.registerCommand(`ollm.${name}`, async (...args: never[]) => {
      try {
        return await act(...args);
      } catch (error) {
        if (!wasCancelled(error)) {
          parts.log.error(sentence(error));
          void vscode.window.showErrorMessage(sentence(error));
        }
        return undefined;
      }
    }),
  );
  return vscode.Disposable.from(...registered);
}

function commands(parts: Parts): Record<string, Command> {
  const { daemon, bar, actions, edits } = parts;
  return {
    menu: () => showMenu(bar.facts),
    setUp: () => setUp(daemon, () => installDaemon(parts, true)),
    selectModel: () => selectModel(daemon),
    selectProvider: () => selectProvider(daemon),
    setKey: (node?: { provider?: { name: string } }) => setKey(parts, node?.provider?.name),
    removeKey: () => removeKey(parts),
    setToken: () => setToken(parts),
    togglePause: () => bar.know({ paused: !bar.facts.paused }),
    restart: () => daemon.restart(),
    installDaemon: () => installDaemon(parts, false),
    showLog: () => parts.log.show(),
    doctor: () => parts.doctor.open(),
    copyDiagnostics: () => copyDiagnostics(daemon, parts.version),
    ask: () => openChat("", true),
    edit: (instruction?: unknown) => edits.edit(typeof instruction === "string" ? instruction : undefined),
    acceptEdit: () => edits.accept(),
    rejectEdit: () => edits.reject(),
    commitMessage: (scm?: { rootUri?: vscode.Uri }) => writeCommitMessage(daemon, scm?.rootUri),
    tryCompletion,
    tryChat: () => openChat(QUESTION, false),
    "models.refresh": () => parts.follower.refresh(),
    "models.pull": actions.pull.bind(actions),
    "models.delete": actions.delete.bind(actions),
    "models.load": actions.load.bind(actions),
    "models.unload": actions.unload.bind(actions),
    "models.useForChat": actions.useForChat.bind(actions),
    "models.useForCompletion": actions.useForCompletion.bind(actions),
    "models.useServer": actions.useServer.bind(actions),
  };
}

/** VS Code's own Chat view; what is selected in the editor goes along with `@ollm`. */
async function openChat(question: string, isPartialQuery: boolean): Promise<void> {
  await vscode.commands.executeCommand("workbench.action.chat.open", { query: `@ollm ${question}`, isPartialQuery });
}

async function tryCompletion(): Promise<void> {
  const document = await vscode.workspace.openTextDocument({ language: "python", content: SAMPLE });
  const editor = await vscode.window.showTextDocument(document);
  const end = document.positionAt(SAMPLE.length);
  editor.selection = new vscode.Selection(end, end);
  await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
}

async function setKey({ daemon, keys, follower }: Parts, named: string | undefined): Promise<void> {
  const provider = named ?? (await pickProvider(daemon));
  if (provider === undefined) {
    return;
  }
  const prompt = vscode.l10n.t("API key of {0}; it is kept in VS Code's secret storage", provider);
  const key = await vscode.window.showInputBox({ prompt, password: true });
  if (key) {
    await keys.set(provider, key);
    await follower.sendSettings();
  }
}

async function removeKey({ follower, keys }: Parts): Promise<void> {
  const provider = await vscode.window.showQuickPick(keys.providers(), { title: vscode.l10n.t("Whose key?") });
  if (provider) {
    await keys.remove(provider);
    await follower.sendSettings();
  }
}

async function setToken({ daemon, keys }: Parts): Promise<void> {
  const prompt = vscode.l10n.t("Token from the file that the daemon wrote");
  const token = await vscode.window.showInputBox({ prompt, password: true });
  if (token) {
    await keys.setToken(token);
    await daemon.restart();
  }
}

async function installDaemon({ daemon, preparation }: Parts, embedded: boolean): Promise<void> {
  const location = { location: vscode.ProgressLocation.Notification, title: "ollm" };
  await vscode.window.withProgress(location, async (progress) => {
    await daemon.stop();
    await preparation.install(embedded, (message) => progress.report({ message }));
    await daemon.restart();
  });
}

/** A daemon that cannot start is no use; say why and offer the ways out. */
export async function offerHelp(reason: string, log: vscode.LogOutputChannel): Promise<void> {
  const [install, settings, show] = [vscode.l10n.t("Install"), vscode.l10n.t("Settings"), vscode.l10n.t("Show Log")];
  const chosen = await vscode.window.showErrorMessage(reason, install, settings, show);
  if (chosen === install) {
    await vscode.commands.executeCommand("ollm.installDaemon");
  } else if (chosen === settings) {
    await vscode.commands.executeCommand("workbench.action.openSettings", "ollm.daemon");
  } else if (chosen === show) {
    log.show();
  }
}
