/** Two ways to a daemon: start one on standard streams, or connect to one that listens. */

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { l10n } from "vscode";
import { Trouble } from "../errors.js";
import type { Found } from "./locate.js";

/** A pair of streams, and what ends with them. */
export interface Attached {
  reader: NodeJS.ReadableStream;
  writer: NodeJS.WritableStream;
  /** What the daemon said last on standard error, for a start that fails. */
  lastWords(): string;
  /** Settles when the daemon is gone. */
  readonly gone: Promise<void>;
  /** Its input ends; a daemon that was started and does not leave then is killed. */
  end(): void;
}

const CONNECT_MS = 5_000;
const LEAVE_MS = 2_000;

/** Start it. `log` gets each line of its standard error. */
export function start(found: Found, cwd: string, logLevel: string, log: (line: string) => void): Attached {
  const child = spawn(found.command, [...found.args, "--stdio", "--log-level", logLevel], {
    cwd,
    stdio: ["pipe", "pipe", "pipe"],
    windowsHide: true,
  });
  let last = "";
  let rest = "";
  const hear = (text: string): void => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines.filter((line) => line.trim() !== "")) {
      last = line.trim();
      log(last);
    }
  };
  child.stderr.setEncoding("utf8").on("data", hear).once("end", () => hear("\n"));
  const gone = new Promise<void>((resolve) => {
    child.once("error", (error) => {
      last = error.message;
      resolve();
    });
    child.once("close", () => resolve());
  });
  const end = (): void => {
    child.stdin.end();
    const force = setTimeout(() => child.kill("SIGKILL"), LEAVE_MS);
    void gone.then(() => clearTimeout(force));
  };
  return { reader: child.stdout, writer: child.stdin, lastWords: () => last, gone, end };
}

/**
 * Connect to a daemon.
 *
 * @throws Trouble Nobody listens there.
 */
export async function dial(address: Address): Promise<Attached> {
  const socket = await new Promise<Socket>((resolve, reject) => {
    const opening = connect({ ...address, timeout: CONNECT_MS }, () => {
      opening.setTimeout(0);
      resolve(opening);
    });
    const refuse = (): void => {
      opening.destroy();
      reject(
        new Trouble(
          l10n.t("No daemon listens at {0}:{1}.", address.host, address.port),
          l10n.t("Start it with `ollm-daemon --tcp {0}`, or empty the setting ollm.daemon.connect.", address.port),
        ),
      );
    };
    opening.once("error", refuse).once("timeout", refuse);
  });
  const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => socket.destroy());
  return { reader: socket, writer: socket, lastWords: () => "", gone, end: () => socket.destroy() };
}

export interface Address {
  host: string;
  port: number;
}

/** `PORT` or `HOST:PORT`, as `ollm-daemon --tcp` takes it. */
export function parseAddress(text: string): Address {
  const found = /^(?:(?<host>\[[^\]]+\]|[^:]*):)?(?<port>\d{1,5})$/.exec(text.trim())?.groups;
  const port = Number(found?.["port"]);
  if (!found || port < 1 || port > 65_535) {
    throw new Trouble(
      l10n.t("`{0}` is no address.", text),
      l10n.t("Write PORT or HOST:PORT into the setting ollm.daemon.connect."),
    );
  }
  const host = found["host"]?.replace(/^\[|\]$/g, "") ?? "";
  // The daemon knows addresses only, and names its file by them.
  return { host: host === "" || host === "localhost" ? "127.0.0.1" : host, port };
}

/** The token that a daemon on this machine wrote down for its user's programs. */
export async function tokenOf(
  address: Address,
  environment: Readonly<Record<string, string | undefined>>,
  home: string,
): Promise<string | undefined> {
  const name = address.host === "127.0.0.1" ? "" : `${address.host.replaceAll(":", "_")}-`;
  const state = environment["XDG_STATE_HOME"] || join(home, ".local", "state");
  for (const base of [environment["XDG_RUNTIME_DIR"], state]) {
    if (base) {
      const file = join(base, "ollm", "run", `daemon-${name}${address.port}.json`);
      const said = await readFile(file, "utf8").then(parsed, () => undefined);
      if (typeof said?.token === "string") {
        return said.token;
      }
    }
  }
  return undefined;
}

/** What a file says that may be any text. */
function parsed(text: string): { token?: unknown } | undefined {
  try {
    return (JSON.parse(text) as { token?: unknown } | null) ?? undefined;
  } catch {
    return undefined;
  }
}
