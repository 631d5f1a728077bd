import { execFileSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { candidates, isRecentPython, locate, upgradeStep, type Origin, type Place } from "../../src/daemon/locate.js";
import { sentence } from "../../src/errors.js";
import { PYTHON, failure, program, runner, temporary, write } from "./world.js";

const MODULE = ["-P", "-m", "ollm_daemon"];

/** Nothing is anywhere. */
const NOWHERE: Place = {
  setting: "",
  selectedPython: undefined,
  trustedFolders: [],
  path: "",
  home: "/nowhere",
  storage: undefined,
  windows: false,
};

describe("candidates", () => {
  const place: Place = {
    setting: "",
    selectedPython: "/opt/py/bin/python",
    trustedFolders: ["/work/a", "/work/b"],
    path: ["/usr/local/bin", "/usr/bin"].join(delimiter),
    home: "/home/me",
    storage: "/home/me/storage",
    windows: false,
  };
  const installed = "storage /home/me/storage/bin/python";
  const inside = ["python /opt/py/bin/python", "workspace /work/a/.venv/bin/python", "workspace /work/b/.venv/bin/python"];
  const outside = ["path /usr/local/bin/ollm-daemon", "path /usr/bin/ollm-daemon", "tools /home/me/.local/bin/ollm-daemon"];

  it.each<[string, Partial<Place>, string[]]>([
    ["are in order, what the user let be installed first", {}, [installed, ...inside, ...outside]],
    ["are none of the extension's own where nothing was installed", { storage: undefined }, [...inside, ...outside]],
    ["of a folder that is not trusted are none of its own", { selectedPython: undefined, trustedFolders: [] }, [installed, ...outside]],
    ["are the setting alone where there is one", { setting: "/mine/ollm-daemon" }, ["setting /mine/ollm-daemon"]],
    ["pass over what is empty in PATH", { path: ["", "/usr/local/bin", "", "/usr/bin", ""].join(delimiter), selectedPython: undefined, trustedFolders: [] }, [installed, ...outside]],
    [
      "are spelled as on Windows",
      { windows: true, path: "/bin" },
      [
        "storage /home/me/storage/Scripts/python.exe",
        "python /opt/py/bin/python",
        "workspace /work/a/.venv/Scripts/python.exe",
        "workspace /work/b/.venv/Scripts/python.exe",
        "path /bin/ollm-daemon.exe",
        "tools /home/me/.local/bin/ollm-daemon.exe",
      ],
    ],
  ])("%s", (_what, said, expected) => {
    expect(candidates({ ...place, ...said }).map(({ origin, command }) => `${origin} ${command}`)).toEqual(expected);
  });

  it("that are a Python run the module, off the path of the folder", () => {
    const args = candidates(place).map((one): [Origin, readonly string[]] => [one.origin, one.args]);
    expect(args.filter(([origin]) => ["python", "workspace", "storage"].includes(origin)).map(([, own]) => own)).toEqual([MODULE, MODULE, MODULE, MODULE]);
    expect(args.filter(([origin]) => ["path", "tools"].includes(origin)).map(([, own]) => own)).toEqual([[], [], []]);
  });

  it.each([
    ["python", MODULE],
    ["/usr/bin/python3", MODULE],
    ["/usr/bin/python3.12", MODULE],
    ["/c/Python/python.exe", MODULE],
    ["/c/Windows/py.exe", MODULE],
    ["ollm-daemon", []],
    ["/opt/python3/bin/ollm-daemon", []],
    ["/usr/bin/python-config", []],
    ["/usr/bin/pythonic", []],
  ])("take the setting %s for what its name says", (setting, args) => {
    expect(candidates({ ...NOWHERE, setting })).toEqual([{ origin: "setting", command: setting, args }]);
  });
});

describe("a daemon that is set", () => {
  const folder = temporary();
  const run = runner(folder);
  const at = (name: string): string => join(folder, name);

  program(at("old/python3"), 'case "$*" in --version) echo "Python 3.8.10";; *) echo "Unknown option: -P" >&2; exit 2;; esac');
  program(at("bare/python3"), `exec '${PYTHON}' -S "$@"`);
  program(at("mute/python3"), "exit 1");
  program(at("other/ollm-daemon"), "echo hello 1.0");
  program(at("failing/ollm-daemon"), "echo ollm-daemon 1.0; exit 1");
  program(at("good/ollm-daemon"), "echo ollm-daemon 1.0");
  write(at("text/ollm-daemon"), "ollm-daemon 1.0");

  it.each([
    ["and is not there", "none/ollm-daemon", "{0} cannot be run."],
    ["and is no Python that is there", "none/python3", "{0} cannot be run."],
    ["and may not be run", "text/ollm-daemon", "{0} cannot be run."],
    ["and is a folder", "good", "{0} cannot be run."],
    ["and is too old a Python", "old/python3", "{0} is Python 3.8.10; ollm-daemon needs Python 3.11 or later."],
    ["and is a Python without it", "bare/python3", "{0} has no ollm-daemon."],
    ["and is a Python in name alone", "mute/python3", "{0} is no Python; ollm-daemon needs Python 3.11 or later."],
    ["and is another program", "other/ollm-daemon", "{0} is no ollm-daemon."],
    ["and fails", "failing/ollm-daemon", "{0} is no ollm-daemon."],
  ])("%s is told of, whatever else there is", async (_what, name, expected) => {
    const place = { ...NOWHERE, setting: at(name), path: at("good") };
    const hint = "Correct the setting ollm.daemon.path, or empty it.";
    expect(sentence(await failure(locate(place, run)))).toBe(`${expected.replace("{0}", at(name))} ${hint}`);
  });

  it("and works is taken", async () => {
    const setting = at("good/ollm-daemon");
    expect(await locate({ ...NOWHERE, setting }, run)).toEqual({ origin: "setting", command: setting, args: [], version: "1.0" });
  });
});

describe("a daemon that is not set", () => {
  let folder: string;
  let place: Place;

  beforeEach(() => {
    folder = temporary();
    place = {
      setting: "",
      selectedPython: join(folder, "selected/python"),
      trustedFolders: [join(folder, "work")],
      path: [join(folder, "first"), join(folder, "second")].join(delimiter),
      home: join(folder, "home"),
      storage: join(folder, "storage"),
      windows: false,
    };
  });

  it("is taken from the most telling place that has one", async () => {
    const places = ["storage/bin/python", "selected/python", "work/.venv/bin/python", "first/ollm-daemon", "second/ollm-daemon", "home/.local/bin/ollm-daemon"];
    places.forEach((name, index) => program(join(folder, name), `echo ollm-daemon ${index}.0`));
    const found: string[] = [];
    for (const name of places) {
      const { origin, version } = await locate(place, runner(folder));
      found.push(`${origin} ${version}`);
      rmSync(join(folder, name));
    }
    expect(found).toEqual(["storage 0.0", "python 1.0", "workspace 2.0", "path 3.0", "path 4.0", "tools 5.0"]);
    expect(sentence(await failure(locate(place, runner(folder))))).toBe(
      "ollm-daemon is not installed where VS Code runs extensions. Let it be installed, or set ollm.daemon.path.",
    );
  });

  it("is not what only bears its name", async () => {
    program(join(folder, "selected/python"), `exec '${PYTHON}' -S "$@"`);
    program(join(folder, "work/.venv/bin/python"), "echo Python 3.8.10; exit 2");
    program(join(folder, "first/ollm-daemon"), "echo hello");
    write(join(folder, "second/ollm-daemon"), "no program");
    program(join(folder, "home/.local/bin/ollm-daemon"), "echo ollm-daemon 4.0");
    expect(await locate(place, runner(folder))).toMatchObject({ origin: "tools", version: "4.0" });
  });

  it("is the real one of a real Python", async () => {
    const said = execFileSync(PYTHON, ["-P", "-m", "ollm_daemon", "--version"], { encoding: "utf8" });
    const found = await locate({ ...place, selectedPython: PYTHON }, runner(folder));
    expect(found).toEqual({ origin: "python", command: PYTHON, args: MODULE, version: said.trim().replace("ollm-daemon ", "") });
  });

  it("is not run in a folder that is not trusted", async () => {
    const mark = join(folder, "mark");
    program(join(folder, "work/.venv/bin/python"), `touch '${mark}'`, "echo ollm-daemon 6.6.6");
    await failure(locate({ ...place, trustedFolders: [] }, runner(join(folder, "work"))));
    expect(existsSync(mark)).toBe(false);
  });

  describe("beside a package of its name", () => {
    let mark: string;

    beforeEach(() => {
      mark = join(folder, "mark");
      write(join(folder, "ollm_daemon/__init__.py"), "");
      write(join(folder, "ollm_daemon/__main__.py"), `open(${JSON.stringify(mark)}, "w").close()\nprint("ollm-daemon 6.6.6")\n`);
    });

    it("runs that package where nothing keeps it off", () => {
      expect(execFileSync(PYTHON, ["-m", "ollm_daemon", "--version"], { cwd: folder, encoding: "utf8" })).toContain("6.6.6");
      expect(existsSync(mark)).toBe(true);
    });

    it("is the installed one", async () => {
      const found = await locate({ ...place, selectedPython: PYTHON }, runner(folder));
      expect(found.version).not.toBe("6.6.6");
      expect(existsSync(mark)).toBe(false);
    });

    it("is none where none is installed", async () => {
      const bare = program(join(folder, "bare/python3"), `exec '${PYTHON}' -S "$@"`);
      expect(sentence(await failure(locate({ ...NOWHERE, setting: bare }, runner(folder))))).toContain("has no ollm-daemon.");
      expect(existsSync(mark)).toBe(false);
    });
  });
});

describe("a Python", () => {
  it.each([
    ["Python 3.11.0\n", true],
    ["Python 3.14.0rc1", true],
    ["Python 4.0.0", true],
    ["Python 3.10.14", false],
    ["Python 3.9.1", false],
    ["Python 2.7.18", false],
    ["", false],
    ["command not found", false],
    ["PyPy 3.11", false],
  ])("that prints %j is recent: %s", (printed, expected) => {
    expect(isRecentPython(printed)).toBe(expected);
  });
});

describe("the step that upgrades", () => {
  const module = ["-P", "-m", "ollm_daemon"];
  it.each<[Origin, string, string[], string]>([
    ["tools", "/home/ada/.local/bin/ollm-daemon", [], "Run `uv tool upgrade ollm-daemon`"],
    ["path", "/home/ada/.local/bin/ollm-daemon", [], "Run `uv tool upgrade ollm-daemon`"],
    ["python", "/my env/python", module, 'Run `"/my env/python" -m pip install --upgrade ollm-daemon`'],
    ["workspace", "/x/python", module, 'Run `"/x/python" -m pip install --upgrade ollm-daemon`'],
    ["storage", "/x/python", module, "Run the command “ollm: Install the Daemon”"],
    ["path", "/usr/bin/ollm-daemon", [], "Run `pip install --upgrade ollm-daemon`"],
    ["setting", "/x/ollm-daemon", [], "Run `pip install --upgrade ollm-daemon`"],
  ])("of one from %s at %s", (origin, command, args, expected) => {
    expect(upgradeStep({ origin, command, args })).toBe(expected);
  });
});
