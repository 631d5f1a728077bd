/** Puts the parts together: what starts the daemon, who hears of it, and what each command does. */

import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import * as vscode from "vscode";
import { Bar, showMenu } from "./bar.js";
import { registerParticipant } from "./chat/participant.js";
import { ChatProvider } from "./chat/provider.js";
import { OfferWatch } from "./completion/feedback.js";
import { completionMiddleware, followOffers } from "./completion/middleware.js";
import { dial, parseAddress, start, tokenOf } from "./daemon/attach.js";
import { Daemon, type Start } from "./daemon/daemon.js";
import { install } from "./daemon/install.js";
import { locate, upgradeCommand, type Place, type Ran } from "./daemon/locate.js";
import { DOCTOR_SCHEME, diagnostics, examine } from "./doctor.js";
import { writeCommitMessage } from "./edits/commit.js";
import { Edits } from "./edits/edit.js";
import { sentence, wasCancelled } from "./errors.js";
import { Keys } from "./keys.js";
import { ModelActions, choose } from "./models/actions.js";
import { ModelsView } from "./models/view.js";
import { settingKeys, toLayers, type Layers } from "./settings.js";
import { setUp } from "./setup.js";

const RUN_MS = 600_000;

/** What tests and other extensions may use. */
export interface Api {
  daemon: Daemon;
  bar: Bar;
  actions: ModelActions;
  edits: Edits;
  keys: Keys;
}

export async function activate(context: vscode.ExtensionContext): Promise<Api> {
  const log = vscode.window.createOutputChannel("ollm", { log: true });
  const keys = new Keys(context.secrets, context.globalState);
  const bar = new Bar();
  const watch = new OfferWatch((feedback) => daemon.tell("ollm/completion/feedback", feedback));
  const storage = join(context.globalStorageUri.fsPath, "daemon");
  const known = settingKeys(context.extension.packageJSON);

  const layers = async (): Promise<Layers> => {
    const configuration = vscode.workspace.getConfiguration("ollm");
    return toLayers(known, (key) => configuration.inspect(key), await keys.all());
  };

  const prepare = async (): Promise<Start> => {
    const configuration = vscode.workspace.getConfiguration("ollm.daemon");
    const options = { ...(await layers()), workspaceTrusted: vscode.workspace.isTrusted };
    const address = configuration.get<string>("connect", "");
    if (address) {
      const parsed = parseAddress(address);
      const token = (await tokenOf(parsed, process.env, homedir())) ?? (await keys.token());
      const attached = await dial(parsed);
      return { attached, options: { ...options, ...(token && { token }) }, upgrade: "pip install --upgrade ollm-daemon" };
    }
    await vscode.workspace.fs.createDirectory(context.globalStorageUri);
    const found = await locate(await place(storage), run);
    log.info(`${found.command} is ollm-daemon ${found.version} (${found.origin})`);
    const level = configuration.get<string>("logLevel", "warning");
    const attached = start(found, context.globalStorageUri.fsPath, level, (line) => write(log, line));
    return { attached, options, upgrade: upgradeCommand(found) };
  };

  const middleware = {
    ...completionMiddleware(watch, {
      isPaused: () => bar.facts.paused,
      count: (step) => bar.know({ completing: bar.facts.completing + step }),
      offered: () => void setContext("hasOffered", true),
    }),
    workspace: {
      // Settings that are not told apart would count as the workspace's.
      configuration: async ({ items }: { items: { section?: string }[] }) => {
        const { workspaceSettings } = await layers();
        return items.map(({ section }) => (section === "ollm" ? workspaceSettings : null));
      },
    },
  };
  const daemon: Daemon = new Daemon(prepare, middleware, log);
  const chat = new ChatProvider(daemon, log);
  const models = new ModelsView(daemon, () => bar.facts.model);
  const actions = new ModelActions(daemon, (working) => bar.know({ working }));
  const edits = new Edits(daemon);
  const doctor = new Documents();

  /** Ask the daemon what counts now. */
  const refresh = async (): Promise<void> => {
    if (daemon.state.kind === "running") {
      const [{ settings }, { providers }] = await Promise.all([
        daemon.request("ollm/config/get", {}),
        daemon.request("ollm/providers/list", {}),
      ]);
      const value = (key: string): unknown => settings.find((setting) => setting.key === key)?.value;
      const model = value("model");
      const provider = providers.find((one) => one.isDefault)?.name;
      bar.know({ provider, model: typeof model === "string" ? model : undefined });
      await setContext("hasModel", typeof model === "string" || provider !== "local");
    }
    lookAtLanguage();
    models.refresh();
    chat.refresh();
  };
  const soon = (action: () => Promise<unknown>) => () => void action().catch((error: unknown) => log.debug(sentence(error)));
  const lookAtLanguage = (): void => {
    const language = vscode.window.activeTextEditor?.document.languageId;
    const completion = vscode.workspace.getConfiguration("ollm.completion");
    const languages = completion.get<Record<string, boolean>>("languages", {});
    const offered = (language === undefined ? undefined : languages[language]) ?? completion.get("enabled", true);
    bar.know({ language, offered });
  };
  const sendSettings = async (): Promise<void> => {
    if (daemon.state.kind === "running") {
      await daemon.request("ollm/config/set", { ...(await layers()), workspaceTrusted: vscode.workspace.isTrusted });
    }
    await refresh();
  };

  const installDaemon = async (embedded: boolean): Promise<void> => {
    const [wheel] = (await readdir(context.asAbsolutePath("daemon"))).filter((name) => name.endsWith(".whl"));
    const wanted = {
      storage,
      wheel: context.asAbsolutePath(join("daemon", wheel ?? "")),
      embedded,
      windows: process.platform === "win32",
    };
    const title = vscode.l10n.t("ollm");
    await vscode.window.withProgress({ location: vscode.ProgressLocation.Notification, title }, async (progress) => {
      await daemon.stop();
      await install(wanted, (command, args) => logged(command, args, log), (message) => progress.report({ message }));
    });
    await daemon.restart();
  };

  const offerHelp = async (reason: string): Promise<void> => {
    const [toInstall, toSet, toLog] = [vscode.l10n.t("Install"), vscode.l10n.t("Settings"), vscode.l10n.t("Show Log")];
    const chosen = await vscode.window.showErrorMessage(reason, toInstall, toSet, toLog);
    if (chosen === toInstall) {
      await vscode.commands.executeCommand("ollm.installDaemon");
    } else if (chosen === toSet) {
      await vscode.commands.executeCommand("workbench.action.openSettings", "ollm.daemon");
    } else if (chosen === toLog) {
      log.show();
    }
  };

  const commands: Record<string, (...args: never[]) => unknown> = {
    menu: () => showMenu(bar.facts),
    setUp: () => setUp(daemon, () => installDaemon(true)),
    selectModel: () => selectModel(daemon),
    selectProvider: () => selectProvider(daemon),
    setKey: async (node?: { provider?: { name: string } }) => {
      const provider = node?.provider?.name ?? (await pickProvider(daemon));
      const key = provider && (await vscode.window.showInputBox({ prompt: vscode.l10n.t("API key of {0}", provider), password: true }));
      if (provider && key) {
        await keys.set(provider, key);
        await sendSettings();
      }
    },
    removeKey: async () => {
      const provider = await vscode.window.showQuickPick(keys.providers(), { title: vscode.l10n.t("Whose key?") });
      if (provider) {
        await keys.remove(provider);
        await daemon.restart();
      }
    },
    setToken: async () => {
      const token = await vscode.window.showInputBox({ prompt: vscode.l10n.t("Token from the daemon's file"), password: true });
      if (token) {
        await keys.setToken(token);
        await daemon.restart();
      }
    },
    togglePause: () => bar.know({ paused: !bar.facts.paused }),
    restart: () => daemon.restart(),
    installDaemon: () => installDaemon(false),
    showLog: () => log.show(),
    doctor: () => doctor.open((tell, token) => examine(daemon, tell, token)),
    copyDiagnostics: async () => {
      const isUp = daemon.state.kind === "running";
      const status = isUp ? await daemon.request("ollm/status", {}) : undefined;
      const settings = isUp ? (await daemon.request("ollm/config/get", {})).settings : [];
      const { packageJSON } = context.extension as { packageJSON: { version: string } };
      const versions = { extension: packageJSON.version, vscode: vscode.version, system: `${process.platform} ${process.arch}` };
      const told = status ? `${status.version}, protocol ${status.protocolVersion}` : daemon.state.kind;
      await vscode.env.clipboard.writeText(diagnostics(versions, told, status, settings));
      void vscode.window.showInformationMessage(vscode.l10n.t("Copied. It holds no keys, prompts or addresses."));
    },
    ask: () => vscode.commands.executeCommand("workbench.action.chat.open", { query: "@ollm ", isPartialQuery: true }),
    edit: (instruction?: unknown) => edits.edit(typeof instruction === "string" ? instruction : undefined),
    acceptEdit: () => edits.accept(),
    rejectEdit: () => edits.reject(),
    commitMessage: (scm?: { rootUri?: vscode.Uri }) => writeCommitMessage(daemon, scm?.rootUri),
    tryCompletion: async () => {
      const content = "def fibonacci(n):\n    ";
      const document = await vscode.workspace.openTextDocument({ language: "python", content });
      const editor = await vscode.window.showTextDocument(document);
      const end = document.positionAt(content.length);
      editor.selection = new vscode.Selection(end, end);
      await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
    },
    tryChat: () => vscode.commands.executeCommand("workbench.action.chat.open", { query: "@ollm Write one sentence about the sea." }),
    "models.refresh": refresh,
    "models.pull": actions.pull.bind(actions),
    "models.delete": actions.delete.bind(actions),
    "models.load": actions.load.bind(actions),
    "models.unload": actions.unload.bind(actions),
    "models.useForChat": actions.useForChat.bind(actions),
    "models.useForCompletion": actions.useForCompletion.bind(actions),
    "models.useServer": actions.useServer.bind(actions),
  };
  /** Every command's failure is a sentence. */
  const registered = Object.entries(commands).map(([name, act]) =>
    vscode.commands.registerCommand(`ollm.${name}`, async (...args: never[]) => {
      try {
        return await act(...args);
      } catch (error) {
        if (!wasCancelled(error)) {
          void vscode.window.showErrorMessage(sentence(error));
        }
        return undefined;
      }
    }),
  );

  context.subscriptions.push(
    log,
    bar,
    daemon,
    chat,
    models,
    edits,
    doctor,
    ...registered,
    followOffers(watch),
    vscode.lm.registerLanguageModelChatProvider("ollm", chat),
    registerParticipant(daemon, () => void setContext("hasAnswered", true)),
    daemon.onDidChangeState((state) => {
      bar.know({ daemon: state, unavailable: undefined, completing: 0 });
      void setContext("state", state.kind);
      if (state.kind === "running" || state.kind === "failed") {
        soon(refresh)();
      }
      if (state.kind === "failed") {
        void offerHelp(state.reason);
      }
    }),
    vscode.Disposable.from(
      toVscode(daemon.on("ollm/completion/didChange", ({ state, message }) => bar.know({ unavailable: state === "ready" ? undefined : (message ?? "") }))),
      toVscode(daemon.on("ollm/models/didChange", soon(refresh))),
      toVscode(daemon.on("ollm/config/didChange", soon(refresh))),
      toVscode(daemon.on("ollm/completion/delta", ({ delta }) => {
        const waits = delta.kind === "status" && (delta.state === "loading" || delta.state === "waiting");
        bar.know({ working: waits ? delta.message : undefined });
      })),
    ),
    vscode.window.onDidChangeActiveTextEditor(lookAtLanguage),
    vscode.workspace.onDidGrantWorkspaceTrust(soon(() => daemon.restart())),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("ollm.daemon")) {
        soon(() => daemon.restart())();
      } else if (change.affectsConfiguration("ollm")) {
        soon(sendSettings)();
      }
    }),
  );
  await daemon.start().catch(() => undefined);
  return { daemon, bar, actions, edits, keys };
}

export function deactivate(): void {
  // Everything ends with the subscriptions.
}

async function place(storage: string): Promise<Place> {
  const python = vscode.extensions.getExtension<PythonApi>("ms-python.python");
  const api = python && (await Promise.resolve(python.activate()).catch(() => undefined));
  const folders = vscode.workspace.workspaceFolders ?? [];
  const { isTrusted } = vscode.workspace;
  return {
    setting: vscode.workspace.getConfiguration("ollm.daemon").get<string>("path", ""),
    selectedPython: isTrusted ? api?.environments?.getActiveEnvironmentPath(folders[0]?.uri)?.path : undefined,
    trustedFolders: isTrusted ? folders.filter(({ uri }) => uri.scheme === "file").map(({ uri }) => uri.fsPath) : [],
    path: process.env["PATH"] ?? "",
    home: homedir(),
    storage,
    windows: process.platform === "win32",
  };
}

/** What is used of the Python extension. */
interface PythonApi {
  environments?: { getActiveEnvironmentPath(resource?: vscode.Uri): { path: string } | undefined };
}

async function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: RUN_MS, windowsHide: true, cwd: homedir() }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : undefined;
      resolve({ code, stdout, stderr: stderr || (error?.message ?? "") });
    });
  });
}

async function logged(command: string, args: readonly string[], log: vscode.LogOutputChannel): Promise<Ran> {
  const done = await run(command, args);
  log.info(`${command} ${args.join(" ")}: ${done.code ?? "?"}`);
  for (const line of `${done.stdout}\n${done.stderr}`.split("\n").filter((line) => line.trim() !== "")) {
    log.info(line);
  }
  return done;
}

/** A line of the daemon's own log, at its level. */
function write(log: vscode.LogOutputChannel, line: string): void {
  const [level] = /\b(ERROR|WARNING|INFO|DEBUG)\b/i.exec(line) ?? ["info"];
  const levels = { error: "error", warning: "warn", info: "info", debug: "debug" } as const;
  log[levels[level.toLowerCase() as keyof typeof levels]](line);
}

async function setContext(key: string, value: unknown): Promise<void> {
  await vscode.commands.executeCommand("setContext", `ollm.${key}`, value);
}

function toVscode(one: { dispose(): unknown }): vscode.Disposable {
  return new vscode.Disposable(() => void one.dispose());
}

async function pickProvider(daemon: Daemon): Promise<string | undefined> {
  const { providers } = await daemon.request("ollm/providers/list", {});
  const items = providers.map((one) => ({
    label: one.name,
    description: [one.backend, one.baseUrl].filter(Boolean).join(" · "),
    picked: one.isDefault,
  }));
  const chosen = await vscode.window.showQuickPick(items, { title: vscode.l10n.t("Select a provider") });
  return chosen?.label;
}

async function selectProvider(daemon: Daemon): Promise<void> {
  const provider = await pickProvider(daemon);
  if (provider) {
    await choose("provider", provider);
    await choose("model", undefined);
  }
}

async function selectModel(daemon: Daemon): Promise<void> {
  const { models, provider } = await daemon.request("ollm/models/list", {});
  const items = models.map((model) => ({
    label: model.id,
    description: [model.parameterSize, model.quantization, model.loaded ? vscode.l10n.t("in memory") : ""].filter(Boolean).join(" · "),
  }));
  const chosen = await vscode.window.showQuickPick(items, { title: vscode.l10n.t("Select a model of {0}", provider) });
  if (chosen) {
    await choose("model", chosen.label);
  }
}

/** Documents that are shown and not kept. */
class Documents implements vscode.TextDocumentContentProvider, vscode.Disposable {
  #text = "";
  readonly #changed = new vscode.EventEmitter<vscode.Uri>();
  readonly #registered = vscode.workspace.registerTextDocumentContentProvider(DOCTOR_SCHEME, this);
  readonly onDidChange = this.#changed.event;

  provideTextDocumentContent(): string {
    return this.#text;
  }

  async open(write: (tell: (what: string) => void, token: vscode.CancellationToken) => Promise<string>): Promise<void> {
    const title = vscode.l10n.t("Looking at all servers…");
    const location = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
    await vscode.window.withProgress(location, async (progress, token) => {
      this.#text = await write((message) => progress.report({ message }), token);
    });
    const uri = vscode.Uri.from({ scheme: DOCTOR_SCHEME, path: "/doctor.md" });
    this.#changed.fire(uri);
    await vscode.workspace.openTextDocument(uri);
    await vscode.commands.executeCommand("markdown.showPreview", uri);
  }

  dispose(): void {
    vscode.Disposable.from(this.#registered, this.#changed).dispose();
  }
}
