import { join } from "node:path";
import type { LogOutputChannel } from "vscode";
import { CancellationTokenSource } from "vscode-jsonrpc/node";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { start } from "../../src/daemon/attach.js";
import { Daemon, type Client, type DaemonState, type Start } from "../../src/daemon/daemon.js";
import { ToldTrouble, Trouble, codeOf, sentence, wasCancelled } from "../../src/errors.js";
import { ERROR_CODES } from "../../src/protocol.gen.js";
import { ScriptedOllama, endlessChat, record, stream } from "../host/ollama.js";
import { DirectClient, ScriptedClient, ScriptedDaemon } from "./client.js";
import { PYTHON, failure, program, temporary } from "./world.js";

const ENDED = "The daemon ended before it answered.";

/** A daemon, and what was seen of it. */
interface Watched {
  daemon: Daemon;
  states: DaemonState[];
}

const watching: Watched[] = [];

function watch(prepare: () => Promise<Start>, newClient: (start: Start) => Client): Watched {
  const log = { error: () => undefined, warn: () => undefined } as unknown as LogOutputChannel;
  const watched: Watched = { daemon: new Daemon(prepare, newClient, log), states: [] };
  watched.daemon.onDidChangeState((state) => watched.states.push(state));
  watching.push(watched);
  return watched;
}

async function stopAll(): Promise<void> {
  await Promise.all(watching.map(({ daemon }) => daemon.stop()));
  watching.length = 0;
}

/** The states it went through. */
function kinds({ states }: Watched): string[] {
  return states.map(({ kind }) => kind).filter((kind, index, all) => kind !== all[index - 1]);
}

/** A promise that the test settles. */
function gate(): { passed: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { passed, open };
}

describe("a daemon of one's own", () => {
  const home = temporary();
  let ollama: ScriptedOllama;
  let userSettings: Record<string, unknown>;
  /** Every process that was started. */
  const processes: { isGone: boolean }[] = [];
  let watched: Watched;
  let daemon: Daemon;
  /** What those hear who listened before it was first started. */
  const heard: string[] = [];
  let leaving: { dispose(): unknown };

  beforeAll(async () => {
    for (const name of Object.keys(process.env).filter((one) => /^(XDG_|OLLM_|OLLAMA_)|_API_KEY$/.test(one))) {
      vi.stubEnv(name, undefined);
    }
    vi.stubEnv("HOME", home);
    ollama = await new ScriptedOllama().start();
    userSettings = { provider: "local", model: "talker:1b", providers: { local: { baseUrl: ollama.url } } };
    watched = real(PYTHON, "-P", "-m", "ollm_daemon");
    ({ daemon } = watched);
    listen("first");
    leaving = listen("second");
  });
  afterAll(async () => {
    await stopAll();
    ollama.stop();
    vi.unstubAllEnvs();
    expect(alive()).toBe(0);
  });
  beforeEach(() => {
    processes.length = 0;
    watched.states.length = 0;
  });

  /** One that a program is. */
  function real(command: string, ...args: string[]): Watched {
    const prepare = (): Promise<Start> => {
      const attached = start({ origin: "python", command, args, version: "" }, home, "warning", () => undefined);
      const process = { isGone: false };
      processes.push(process);
      void attached.gone.then(() => (process.isGone = true));
      return Promise.resolve({ attached, options: { userSettings }, upgrade: "" });
    };
    return watch(prepare, (one) => new DirectClient(one));
  }

  function listen(name: string): { dispose(): unknown } {
    return daemon.on("ollm/config/didChange", () => heard.push(name));
  }

  function alive(): number {
    return processes.filter(({ isGone }) => !isGone).length;
  }

  const pid = async (): Promise<number> => (await daemon.request("ollm/status", {})).pid;
  const saying = { messages: [{ role: "user" as const, content: "Count" }] };

  it("is started once by many that need it", async () => {
    await daemon.stop();
    watched.states.length = 0;
    const [, first, , second] = await Promise.all([daemon.start(), pid(), daemon.start(), pid()]);
    expect(second).toBe(first);
    expect(await pid()).toBe(first);
    expect(processes).toHaveLength(1);
    expect(kinds(watched)).toEqual(["starting", "running"]);
    expect(daemon.state).toEqual({ kind: "running", version: (await daemon.request("ollm/status", {})).version });
  });

  it("has its own failures told as they are", async () => {
    const error = await failure(daemon.request("ollm/chat", { messages: 5 } as never));
    expect(codeOf(error)).toBe(ERROR_CODES.invalidParams);
    const stop = new CancellationTokenSource();
    ollama.answers["/api/chat"] = (...asked) => {
      endlessChat()(...asked);
      stop.cancel();
    };
    expect(wasCancelled(await failure(daemon.request("ollm/chat", saying, stop.token)))).toBe(true);
    expect(kinds(watched)).not.toContain("stopped");
  });

  it("tells of what somebody listens for later, and of progress", async () => {
    const percentages: number[] = [];
    const hearing = await daemon.onProgress("work", ({ percentage }) => percentage !== undefined && percentages.push(percentage));
    expect(daemon.state.kind).toBe("running");
    const changed = vi.fn();
    const later = daemon.on("ollm/models/didChange", changed);
    ollama.answers["/api/pull"] = (_body, response) => {
      stream(response);
      record(response, { status: "pulling 0000", digest: "sha256:0000", total: 200, completed: 50 });
      record(response, { status: "success" });
      response.end();
    };
    await daemon.request("ollm/models/pull", { model: "talker:3b", workDoneToken: "work" });
    await vi.waitFor(() => expect(changed).toHaveBeenCalledExactlyOnceWith({ provider: "local" }), { interval: 5 });
    hearing.dispose();
    later.dispose();
    expect(percentages).toEqual([25]);
  });

  it("is restarted once however often that is asked for, and tells everybody everything once then too", async () => {
    let seed = 0;
    const change = async (): Promise<string[]> => {
      heard.length = 0;
      await daemon.request("ollm/config/get", {}); // it tells of changes to who has needed settings
      await daemon.request("ollm/config/set", { userSettings: { ...userSettings, options: { seed: ++seed } } });
      await vi.waitFor(() => expect(heard).not.toEqual([]), { interval: 5 });
      await daemon.request("ollm/status", {});
      return [...heard];
    };
    expect(await change()).toEqual(["first", "second"]);
    listen("third");
    const before = await pid();
    processes.length = watched.states.length = 0;
    await Promise.all([daemon.restart(), daemon.restart(), daemon.restart()]);
    expect(processes).toHaveLength(1);
    expect(watched.states.map(({ kind }) => kind)).toEqual(["stopped", "starting", "running"]);
    expect(await pid()).not.toBe(before);
    expect(await change()).toEqual(["first", "second", "third"]);
    leaving.dispose();
    expect(await change()).toEqual(["first", "third"]);
  });

  it("that dies in mid-answer is told of in a sentence, and started again", async () => {
    const before = await pid();
    processes.length = watched.states.length = 0;
    ollama.answers["/api/chat"] = () => process.kill(before, "SIGKILL");
    const asked = [failure(daemon.request("ollm/chat", saying)), failure(daemon.request("ollm/chat", saying))];
    for (const error of await Promise.all(asked)) {
      expect(error).toBeInstanceOf(Trouble);
      expect(sentence(error)).toBe(`${ENDED} Try again; the log has the rest.`);
    }
    await vi.waitFor(() => expect(kinds(watched)).toEqual(["starting", "running"]), { interval: 5, timeout: 10_000 });
    expect(await pid()).not.toBe(before);
    expect([processes.length, alive()]).toEqual([1, 1]);
  });

  it("is gone while something is done to it, nobody can start it then, and it is started afterwards", async () => {
    const before = await pid();
    const why = "The daemon is being installed.";
    const other = vi.fn<() => Promise<void>>();
    const act = async (): Promise<number> => {
      expect(() => process.kill(before, 0)).toThrow("ESRCH");
      const refused = [daemon.start(), pid(), daemon.onProgress("work", () => undefined), daemon.restart(), daemon.without("Another.", other)];
      expect((await Promise.all(refused.map(failure))).map(sentence)).toEqual(refused.map(() => why));
      expect(other).not.toHaveBeenCalled();
      expect(daemon.state.kind).toBe("stopped");
      return 5;
    };
    processes.length = 0;
    expect(await daemon.without(why, act)).toBe(5);
    expect(daemon.state.kind).toBe("running");
    expect([processes.length, alive()]).toEqual([1, 1]);
  });

  it.each([
    ["at once", ""],
    ["when it is asked", "read line"],
  ])("that dies %s instead of an answer is told of with its last words", async (when, first) => {
    const command = program(join(home, `dying ${when}`), first, "echo 'Some words.' >&2", "echo 'I cannot.' >&2", "exit 78");
    const dying = real(command);
    for (let round = 1; round <= 5; round++) {
      const error = await failure(dying.daemon.restart());
      expect(error).toBeInstanceOf(ToldTrouble);
      expect(sentence(error)).toBe(`${ENDED} I cannot.`);
    }
    expect(dying.daemon.state).toEqual({ kind: "failed", reason: `${ENDED} I cannot.` });
  });
});

describe("a daemon that does not do as it should", () => {
  const WAITS = [0, 1_000, 2_000, 5_000, 10_000];
  /** What a start waits for now. */
  let hold: () => Promise<void>;
  /** What it fails with then. */
  let refused: Trouble | undefined;
  let words: string;
  let begun: number;
  /** When a start was prepared, in milliseconds after the first one could be. */
  let times: number[];
  let scripted: ScriptedDaemon[];
  let clients: ScriptedClient[];
  let watched: Watched;
  let daemon: Daemon;

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    hold = () => Promise.resolve();
    refused = undefined;
    words = "I cannot.";
    begun = Date.now();
    times = [];
    scripted = [];
    clients = [];
    watched = misbehaving();
    ({ daemon } = watched);
  });
  afterEach(async () => {
    await stopAll();
    expect(alive()).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
  });

  /** Its client misbehaves as `spoil` says. */
  function misbehaving(spoil: (client: ScriptedClient) => void = () => undefined): Watched {
    const prepare = async (): Promise<Start> => {
      times.push(Date.now() - begun);
      await hold();
      if (refused) {
        throw refused;
      }
      const one = new ScriptedDaemon(words);
      scripted.push(one);
      return { attached: one.attached, options: {}, upgrade: "Run `mend`" };
    };
    const newClient = (): Client => {
      const client = new ScriptedClient();
      spoil(client);
      clients.push(client);
      return client;
    };
    return watch(prepare, newClient);
  }

  async function pass(milliseconds: number): Promise<void> {
    await vi.advanceTimersByTimeAsync(milliseconds);
  }

  /** The one that runs dies. */
  async function die(): Promise<void> {
    scripted.at(-1)!.die();
    await new Promise<void>((resolve) => setImmediate(resolve)); // whoever waits for that hears of it
  }

  function alive(): number {
    return scripted.filter(({ isGone }) => !isGone).length;
  }

  it("and is stopped is gone then, and is started by the next one who needs it", async () => {
    await daemon.start();
    await Promise.all([daemon.stop(), daemon.stop()]);
    expect(alive()).toBe(0);
    expect(clients.map(({ isDisposed }) => isDisposed)).toEqual([true]);
    void daemon.request("ollm/status", {});
    await daemon.start();
    expect([scripted.length, alive()]).toEqual([2, 1]);
    expect(clients[1]?.sent).toEqual([["ollm/status", {}]]);
    expect(kinds(watched)).toEqual(["starting", "running", "stopped", "starting", "running"]);
  });

  it.each<[string, (preparing: Promise<void>) => Promise<void> | undefined, string[]]>([
    ["at once", () => undefined, []],
    ["while its start prepares", (preparing) => preparing, ["starting"]],
  ])("and is stopped %s is not started, and nothing of it is left", async (_what, until, begun) => {
    const [preparing, { passed, open }] = [gate(), gate()];
    hold = () => {
      preparing.open();
      return passed;
    };
    const starting = failure(daemon.start());
    const waiting = until(preparing.passed);
    if (waiting) {
      await waiting;
    }
    const stopping = daemon.stop();
    open();
    await stopping;
    expect(times).toHaveLength(begun.length);
    expect([clients.length, alive()]).toEqual([0, 0]);
    const error = await starting;
    expect(sentence(error)).toBe("The daemon was stopped.");
    expect(error).not.toBeInstanceOf(ToldTrouble);
    expect(kinds(watched)).toEqual([...begun, "stopped"]);
  });

  it("and is asked while its start is waited for is not started sooner", async () => {
    await daemon.start();
    refused = new Trouble("Nobody listens.");
    await die();
    await pass(0); // the first try comes at once, and is refused
    const asking = Array.from({ length: 5 }, () => daemon.start());
    await pass(999);
    expect(times).toHaveLength(2);
    refused = undefined;
    await pass(1);
    await Promise.all(asking);
    expect(daemon.state.kind).toBe("running");
    expect(times).toHaveLength(3);
  });

  it("and is restarted while a restart prepares is one in the end", async () => {
    await daemon.start();
    const [preparing, { passed, open }] = [gate(), gate()];
    hold = () => {
      preparing.open();
      return passed;
    };
    const first = daemon.restart();
    await preparing.passed;
    const second = daemon.restart();
    open();
    await Promise.all([first, second]);
    expect(daemon.state.kind).toBe("running");
    expect([scripted.length, clients.length, alive()]).toEqual([3, 2, 1]);
    expect(kinds(watched).slice(2)).toEqual(["stopped", "starting", "stopped", "starting", "running"]);
  });

  it("and is done something to while its start prepares is started afterwards, when nothing is left of that", async () => {
    const [preparing, { passed, open }] = [gate(), gate()];
    hold = () => {
      preparing.open();
      return passed;
    };
    const starting = failure(daemon.start());
    await preparing.passed;
    const acting = daemon.without("Mending.", () => Promise.resolve([scripted.length, alive()]));
    open();
    expect(await acting).toEqual([1, 0]);
    expect(sentence(await starting)).toBe("The daemon was stopped.");
    expect([scripted.length, alive()]).toEqual([2, 1]);
  });

  it("and is done something to that fails is started afterwards all the same, and may be done something to again", async () => {
    const error = new Error("There is no Python.");
    expect(await failure(daemon.without("Mending.", () => Promise.reject(error)))).toBe(error);
    expect(daemon.state.kind).toBe("running");
    expect(await daemon.without("Mending.", () => Promise.resolve("again"))).toBe("again");
    expect([scripted.length, alive()]).toEqual([2, 1]);
  });

  it("and whose window ends is ended, and nobody hears of that", async () => {
    await daemon.start();
    daemon.dispose();
    await scripted[0]?.attached.gone;
    await daemon.stop();
    expect(daemon.state.kind).toBe("stopped");
    expect(kinds(watched)).toEqual(["starting", "running"]);
  });

  it("and fails is started again by nobody who only asks something, and by who wants it", async () => {
    refused = new Trouble("ollm-daemon is not installed.", "Let it be installed.");
    const reason = sentence(refused);
    const error = await failure(daemon.start());
    expect(error).toBeInstanceOf(ToldTrouble);
    expect(sentence(error)).toBe(reason);
    expect(daemon.state).toEqual({ kind: "failed", reason });
    await pass(600_000);
    for (let round = 1; round <= 3; round++) {
      const asked = await failure(daemon.request("ollm/status", {}));
      expect(asked).toBeInstanceOf(Trouble);
      expect(sentence(asked)).toBe(reason);
    }
    expect(times).toHaveLength(1);

    refused = undefined;
    await daemon.restart();
    expect(daemon.state).toEqual({ kind: "running", version: "1.2.3" });
    expect(times).toHaveLength(2);
  });

  it("and fails is started after it was mended, and may fail again", async () => {
    refused = new Trouble("ollm-daemon is not installed.");
    await failure(daemon.start());
    const mend = async (): Promise<void> => {
      refused = undefined;
      expect(sentence(await failure(daemon.request("ollm/status", {})))).toBe("Mending.");
      await pass(600_000);
    };
    await daemon.without("Mending.", mend);
    expect(daemon.state.kind).toBe("running");
    const spoil = (): Promise<string> => {
      refused = new Trouble("It is gone.");
      return Promise.resolve("spoilt");
    };
    expect(await daemon.without("Spoiling.", spoil)).toBe("spoilt");
    expect(daemon.state).toEqual({ kind: "failed", reason: "It is gone." });
    expect(times).toHaveLength(3);
  });

  it("and dies all the time is started again, each time later, and then left alone", async () => {
    await daemon.start();
    for (const wait of WAITS) {
      await die();
      expect(daemon.state.kind).toBe("starting");
      if (wait > 0) {
        const before = times.length;
        await pass(wait - 1);
        expect(times).toHaveLength(before);
      }
      await pass(wait > 0 ? 1 : 0);
      expect(daemon.state.kind).toBe("running");
    }
    expect(times).toEqual([0, 0, 1_000, 3_000, 8_000, 18_000]);
    expect(clients.map(({ isDisposed }) => isDisposed)).toEqual([true, true, true, true, true, false]);
    await die();
    const reason = "The daemon ended several times in a row. I cannot.";
    expect(daemon.state).toEqual({ kind: "failed", reason });
    expect(sentence(await failure(daemon.request("ollm/status", {})))).toBe(reason);
    await pass(600_000);
    expect(times).toHaveLength(6);

    await daemon.restart();
    await die();
    await pass(0);
    expect(daemon.state.kind).toBe("running");
    expect(times).toHaveLength(8);
  });

  it("and dies all the time without a word is told of all the same", async () => {
    words = "";
    await daemon.start();
    for (const wait of [...WAITS, 0]) {
      await die();
      await pass(wait);
    }
    expect(daemon.state).toEqual({ kind: "failed", reason: "The daemon ended several times in a row." });
  });

  it("and dies now and then is started again every time", async () => {
    await daemon.start();
    for (let minute = 1; minute <= 20; minute++) {
      await die();
      await pass(60_000);
      expect(daemon.state.kind).toBe("running");
    }
    expect(kinds(watched)).not.toContain("failed");
  });

  it("and is gone when it has died is looked for again, each time later, and then given up", async () => {
    await daemon.start();
    refused = new Trouble("No daemon listens at 127.0.0.1:7000.", "Start it.");
    await die();
    await pass(17_999);
    expect(daemon.state.kind).toBe("starting");
    await pass(1);
    expect(times).toEqual([0, 0, 1_000, 3_000, 8_000, 18_000]);
    expect(daemon.state).toEqual({ kind: "failed", reason: "No daemon listens at 127.0.0.1:7000. Start it." });
    await pass(600_000);
    expect(times).toHaveLength(6);
    expect(kinds(watched)).toEqual(["starting", "running", "starting", "failed"]);

    expect(await failure(daemon.start())).toBeInstanceOf(ToldTrouble);
    await pass(600_000);
    expect(times).toHaveLength(7);
  });

  it("and has died and is then restarted in vain is told of at once", async () => {
    await daemon.start();
    await die();
    await pass(0);
    refused = new Trouble("No daemon listens.");
    expect(await failure(daemon.restart())).toBeInstanceOf(ToldTrouble);
    expect(daemon.state).toEqual({ kind: "failed", reason: "No daemon listens." });
    await pass(600_000);
    expect(times).toHaveLength(3);
  });

  it("and is there again when it is looked for runs on", async () => {
    await daemon.start();
    refused = new Trouble("No daemon listens.");
    await die();
    await pass(3_000);
    refused = undefined;
    await pass(5_000);
    expect(daemon.state.kind).toBe("running");
    expect(times).toEqual([0, 0, 1_000, 3_000, 8_000]);
    expect(kinds(watched)).toEqual(["starting", "running", "starting", "running"]);
  });

  it.each<[string, () => Promise<unknown>, number]>([
    ["stopped is not started later", () => daemon.stop(), 2],
    ["restarted is not started once more later", () => daemon.restart(), 3],
    ["done something to is started once, when that is done", () => daemon.without("Mending.", () => pass(600_000)), 3],
  ])("and has died and is then %s", async (_what, act, starts) => {
    await daemon.start();
    await die();
    await pass(0);
    await die();
    await pass(500);
    await act();
    await pass(600_000);
    expect(times).toHaveLength(starts);
  });

  it("and never answers is ended after a while, and told of with its last words", async () => {
    const silent = misbehaving((client) => (client.start = () => new Promise(() => undefined)));
    const starting = failure(silent.daemon.start());
    await pass(19_999);
    expect(silent.daemon.state.kind).toBe("starting");
    await pass(1);
    expect(silent.daemon.state).toEqual({ kind: "failed", reason: "The daemon did not answer. I cannot." });
    expect(await starting).toBeInstanceOf(ToldTrouble);
    await scripted[0]?.attached.gone;
    expect(clients.map(({ isDisposed }) => isDisposed)).toEqual([true]);
  });

  it("and never answers is stopped without waiting for that", async () => {
    const silent = misbehaving((client) => (client.start = () => new Promise(() => undefined)));
    const starting = failure(silent.daemon.start());
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect(clients).toHaveLength(1);
    await silent.daemon.stop();
    await starting;
    expect(kinds(silent)).toEqual(["starting", "stopped"]);
    expect(clients.map(({ isDisposed }) => isDisposed)).toEqual([true]);
  });

  it("and speaks an older protocol is ended, and told of with what mends it", async () => {
    const old = misbehaving((client) => (client.initializeResult = { capabilities: { experimental: { ollm: { protocolVersion: "0.9" } } } }));
    expect(sentence(await failure(old.daemon.start()))).toMatch(/^The daemon speaks version 0\.9 .*, which is too old: .*\. Run `mend`, then restart it\.$/);
    expect(old.daemon.state.kind).toBe("failed");
    await scripted[0]?.attached.gone;
  });

  it("is told nothing until it runs, and may not hear it", async () => {
    const deaf = misbehaving((client) => {
      client.sendNotification = (method, params) => {
        client.sent.push([method, params]);
        return Promise.reject(new Error("The stream is closed."));
      };
    });
    deaf.daemon.tell("ollm/completion/feedback", { event: "shown" });
    await deaf.daemon.start();
    deaf.daemon.tell("ollm/completion/feedback", { event: "accepted" });
    await deaf.daemon.stop();
    deaf.daemon.tell("ollm/completion/feedback", { event: "rejected" });
    expect(clients.map(({ sent }) => sent)).toEqual([[["ollm/completion/feedback", { event: "accepted" }]]]);
  });
});
