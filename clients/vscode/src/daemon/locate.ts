/** Where `ollm-daemon` is. What a folder holds is run only if the user trusts it. */

import { access } from "node:fs/promises";
import { basename, delimiter, join } from "node:path";
import { l10n } from "vscode";
import { Trouble } from "../errors.js";

/** Runs a program to its end; never rejects for its exit code. */
export type Run = (command: string, args: readonly string[]) => Promise<Ran>;

export interface Ran {
  /** `undefined` when it could not be started or took too long. */
  code: number | undefined;
  stdout: string;
  stderr: string;
}

export type Origin = "setting" | "python" | "workspace" | "storage" | "path" | "tools";

export interface Candidate {
  origin: Origin;
  command: string;
  args: readonly string[];
}

export interface Found extends Candidate {
  version: string;
}

/** What is looked at. */
export interface Place {
  /** `ollm.daemon.path`. */
  setting: string;
  /** The interpreter that is selected in the Python extension. */
  selectedPython: string | undefined;
  /** Folders of a trusted workspace; none of one that is not. */
  trustedFolders: readonly string[];
  /** `PATH`. */
  path: string;
  home: string;
  /** The environment that the user let the extension install, which shows that no other one would do. */
  storage: string | undefined;
  windows: boolean;
}

/** `-P` keeps the working directory off the module path: a folder that holds an `ollm_daemon` is not imported. */
const MODULE = ["-P", "-m", "ollm_daemon"] as const;
const OLDEST_PYTHON = [3, 11] as const;

/** Every place a daemon may be at, the most telling first. */
export function candidates(place: Place): Candidate[] {
  if (place.setting) {
    return [named(place.setting.replace(/^~(?=[\\/])/, place.home))];
  }
  const bin = place.windows ? "Scripts" : "bin";
  const exe = place.windows ? ".exe" : "";
  const python = (folder: string): string => join(folder, bin, `python${exe}`);
  const found: Candidate[] = [];
  if (place.storage) {
    found.push({ origin: "storage", command: python(place.storage), args: MODULE });
  }
  if (place.selectedPython) {
    found.push({ origin: "python", command: place.selectedPython, args: MODULE });
  }
  for (const folder of place.trustedFolders) {
    found.push({ origin: "workspace", command: python(join(folder, ".venv")), args: MODULE });
  }
  const folders = place.path.split(delimiter).filter((folder) => folder !== "");
  for (const folder of folders) {
    found.push({ origin: "path", command: join(folder, `ollm-daemon${exe}`), args: [] });
  }
  found.push({ origin: "tools", command: join(place.home, ".local", "bin", `ollm-daemon${exe}`), args: [] });
  return found;
}

/**
 * The first candidate that is a daemon.
 *
 * @throws Trouble None is. A path that the user has set and that does not work is told of, not passed over.
 */
export async function locate(place: Place, run: Run): Promise<Found> {
  for (const candidate of candidates(place)) {
    if (place.setting || (await exists(candidate.command))) {
      const said = await run(candidate.command, [...candidate.args, "--version"]);
      const version = /^ollm-daemon (\S+)/.exec(said.stdout)?.[1];
      if (said.code === 0 && version) {
        return { ...candidate, version };
      }
      if (place.setting) {
        throw new Trouble(await whyNot(candidate, said, run), l10n.t("Correct the setting ollm.daemon.path, or empty it."));
      }
    }
  }
  throw new Trouble(
    l10n.t("ollm-daemon is not installed where VS Code runs extensions."),
    l10n.t("Let it be installed, or set ollm.daemon.path."),
  );
}

/** What brings a daemon up to date, by where it came from. */
export function upgradeStep(found?: Candidate): string {
  const run = (command: string): string => l10n.t("Run `{0}`", command);
  if (found?.origin === "storage") {
    return l10n.t("Run the command “ollm: Install the Daemon”");
  }
  if (found?.origin === "tools" || found?.command.includes(join(".local", "bin"))) {
    return run("uv tool upgrade ollm-daemon");
  }
  const isPython = found !== undefined && found.args.length > 0;
  return run(isPython ? `"${found.command}" -m pip install --upgrade ollm-daemon` : "pip install --upgrade ollm-daemon");
}

/** Whether this Python is new enough: what `--version` printed. */
export function isRecentPython(printed: string): boolean {
  const [major, minor] = pythonVersion(printed) ?? [0, 0];
  return major > OLDEST_PYTHON[0] || (major === OLDEST_PYTHON[0] && minor >= OLDEST_PYTHON[1]);
}

function pythonVersion(printed: string): [number, number] | undefined {
  const found = /^Python (\d+)\.(\d+)/.exec(printed);
  return found ? [Number(found[1]), Number(found[2])] : undefined;
}

function named(path: string): Candidate {
  const isPython = /^py(thon[\d.]*t?)?(\.exe)?$/i.test(basename(path));
  return { origin: "setting", command: path, args: isPython ? MODULE : [] };
}

async function whyNot(candidate: Candidate, said: Ran, run: Run): Promise<string> {
  const { command } = candidate;
  if (said.code === undefined) {
    return l10n.t("{0} cannot be run.", command);
  }
  if (candidate.args.length > 0) {
    const { stdout } = await run(command, ["--version"]);
    return isRecentPython(stdout)
      ? l10n.t("{0} has no ollm-daemon.", command)
      : l10n.t("{0} is {1}; ollm-daemon needs Python 3.11 or later.", command, stdout.trim() || l10n.t("no Python"));
  }
  return l10n.t("{0} is no ollm-daemon.", command);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
