/** What a start needs from VS Code: settings, where to look, whom to connect to. */

import { execFile } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import * as vscode from "vscode";
import type { Keys } from "../keys.js";
import type { InitializationOptions } from "../protocol.gen.js";
import { settingKeys, toLayers } from "../settings.js";
import { dial, parseAddress, start, tokenOf } from "./attach.js";
import type { Start } from "./daemon.js";
import { install } from "./install.js";
import { locate, upgradeStep, type Place, type Ran, type Run } from "./locate.js";

/** Installing may fetch a model; asking for a version may not. */
const INSTALL_MS = 600_000;
const ASK_MS = 10_000;
/** How long the Python extension may take to say which interpreter is selected. */
const PYTHON_MS = 3_000;
/** Where the environment is that the user let be installed. */
const INSTALLED = "daemon.installed";

export class Preparation {
  readonly #known: string[];

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly keys: Keys,
    private readonly log: vscode.LogOutputChannel,
  ) {
    this.#known = settingKeys(context.extension.packageJSON);
  }

  /** Settings as they are now, told apart by who wrote them. */
  async settings(): Promise<InitializationOptions> {
    const configuration = vscode.workspace.getConfiguration("ollm");
    const layers = toLayers(this.#known, (key) => configuration.inspect(key), await this.keys.all());
    return { ...layers, workspaceTrusted: vscode.workspace.isTrusted };
  }

  /** A daemon to speak to. */
  async start(): Promise<Start> {
    const configuration = vscode.workspace.getConfiguration("ollm.daemon");
    const options = await this.settings();
    const address = configuration.get<string>("connect", "");
    if (address) {
      const parsed = parseAddress(address);
      const token = (await tokenOf(parsed, process.env, homedir())) ?? (await this.keys.token());
      const attached = await dial(parsed);
      return { attached, options: { ...options, ...(token && { token }) }, upgrade: upgradeStep() };
    }
    const found = await locate(await this.#place(), (command, args) => runProgram(command, args, ASK_MS));
    this.log.info(`${found.command} is ollm-daemon ${found.version} (${found.origin})`);
    await vscode.workspace.fs.createDirectory(this.context.globalStorageUri);
    const level = configuration.get<string>("logLevel", "warning");
    const attached = start(found, this.context.globalStorageUri.fsPath, level, (line) => writeLine(this.log, line));
    return { attached, options, upgrade: upgradeStep(found) };
  }

  /** Whether the user says which daemon to use, so that one of ours would not be. */
  get isChosen(): boolean {
    const configuration = vscode.workspace.getConfiguration("ollm.daemon");
    return configuration.get<string>("path", "") !== "" || configuration.get<string>("connect", "") !== "";
  }

  /** Install the daemon that came with the extension; the one before goes with the next. */
  async install(embedded: boolean, tell: (step: string) => void): Promise<void> {
    const brought = this.context.asAbsolutePath("daemon");
    const wheel = (await readdir(brought)).find((name) => name.endsWith(".whl")) ?? "";
    const storage = join(this.context.globalStorageUri.fsPath, `daemon-${Date.now()}`);
    const wanted = { storage, wheel: join(brought, wheel), embedded, windows: isWindows() };
    const logged: Run = async (command, args) => {
      const done = await runProgram(command, args, INSTALL_MS);
      this.log.info(`${command} ${args.join(" ")}: ${done.code ?? "?"}`);
      for (const line of `${done.stdout}\n${done.stderr}`.split("\n").filter((text) => text.trim() !== "")) {
        this.log.info(line);
      }
      return done;
    };
    await vscode.workspace.fs.createDirectory(this.context.globalStorageUri);
    await install(wanted, logged, tell);
    const kept = [storage, this.#installed]; // another window may run from the one before
    await this.context.globalState.update(INSTALLED, storage);
    for (const name of await readdir(this.context.globalStorageUri.fsPath)) {
      const path = join(this.context.globalStorageUri.fsPath, name);
      if (/^daemon-\d+$/.test(name) && !kept.includes(path)) {
        await rm(path, { recursive: true, force: true });
      }
    }
  }

  get #installed(): string | undefined {
    return this.context.globalState.get<string>(INSTALLED);
  }

  async #place(): Promise<Place> {
    const folders = vscode.workspace.workspaceFolders ?? [];
    const { isTrusted } = vscode.workspace;
    return {
      setting: vscode.workspace.getConfiguration("ollm.daemon").get<string>("path", ""),
      selectedPython: isTrusted ? await selectedPython(folders[0]?.uri) : undefined,
      trustedFolders: isTrusted ? folders.filter(({ uri }) => uri.scheme === "file").map(({ uri }) => uri.fsPath) : [],
      path: process.env["PATH"] ?? "",
      home: homedir(),
      storage: this.#installed,
      windows: isWindows(),
    };
  }
}

/** What is used of the Python extension. */
interface PythonApi {
  environments?: { getActiveEnvironmentPath(resource?: vscode.Uri): { path: string } | undefined };
}

async function selectedPython(folder: vscode.Uri | undefined): Promise<string | undefined> {
  const python = vscode.extensions.getExtension<PythonApi>("ms-python.python");
  const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), PYTHON_MS));
  const active = python && Promise.resolve(python.activate()).catch(() => undefined);
  const api = await Promise.race([active, late]);
  return api?.environments?.getActiveEnvironmentPath(folder)?.path;
}

/** In the home folder, for what is in the folder that is open must not be run by accident. */
async function runProgram(command: string, args: readonly string[], timeout: number): Promise<Ran> {
  return new Promise((resolve) => {
    const child = execFile(command, args, { timeout, windowsHide: true, cwd: homedir() }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : undefined;
      resolve({ code, stdout, stderr: stderr || (error?.message ?? "") });
    });
    child.stdin?.end();
  });
}

const LEVELS = { error: "error", warning: "warn", info: "info", debug: "debug" } as const;

/** A line of the daemon's own log, at its level. */
function writeLine(log: vscode.LogOutputChannel, line: string): void {
  const level = /\b(error|warning|info|debug)\b/i.exec(line)?.[1]?.toLowerCase() ?? "info";
  log[LEVELS[level as keyof typeof LEVELS]](line);
}

function isWindows(): boolean {
  return process.platform === "win32";
}
