/** The parts of the extension that need no VS Code, with the real daemon. */

import { readFileSync, readdirSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { CancellationTokenSource } from "vscode-jsonrpc/node";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { streamChat } from "../../src/chat/stream.js";
import { diagnostics, examine } from "../../src/doctor.js";
import { dataOf, sentence, wasCancelled } from "../../src/errors.js";
import { childNodes, show, topNodes, type Node } from "../../src/models/nodes.js";
import type { ChatParams, ChatResult, CompletionDeltaParams, Delta, InitializationOptions } from "../../src/protocol.gen.js";
import { settingKeys, toLayers } from "../../src/settings.js";
import { ScriptedOllama, chat, endlessChat, record, send, stream } from "../host/ollama.js";
import { Session } from "./session.js";
import { CLIENT, MANIFEST, closedPort, failure, temporary, type Property } from "./world.js";

const home = temporary();
const sessions: Session[] = [];
let ollama: ScriptedOllama;
let other: ScriptedOllama;
let nobody: string;
/** The user has two servers that answer and one that does not. */
let settings: { provider: string; model: string; providers: Record<string, object> };
let wire: Session;

beforeAll(async () => {
  for (const name of Object.keys(process.env).filter((one) => /^(XDG_|OLLM_|OLLAMA_)|_API_KEY$/.test(one))) {
    vi.stubEnv(name, undefined);
  }
  vi.stubEnv("HOME", home);
  ollama = await new ScriptedOllama().start();
  other = await new ScriptedOllama().start();
  nobody = `http://127.0.0.1:${await closedPort()}`;
  settings = {
    provider: "local",
    model: "talker:1b",
    providers: { local: { baseUrl: ollama.url }, other: { kind: "local", baseUrl: other.url }, nobody: { kind: "local", baseUrl: nobody } },
  };
  wire = await open({ userSettings: settings });
});

afterAll(async () => {
  await Promise.all(sessions.map((session) => session.close()));
  ollama.stop();
  other.stop();
  vi.unstubAllEnvs();
});

beforeEach(() => {
  for (const server of [ollama, other]) {
    server.answers["/api/chat"] = chat({ content: "Hello" });
    server.asked.length = 0;
    server.left.length = 0;
  }
});

/** Start a daemon that ends after the tests. */
async function open(options: InitializationOptions): Promise<Session> {
  const session = await Session.open(home, options);
  sessions.push(session);
  return session;
}

function saying(content: string, more: Partial<ChatParams> = {}): ChatParams {
  return { messages: [{ role: "user", content }], ...more };
}

function textOf(deltas: readonly Delta[]): string {
  return deltas.map((delta) => (delta.kind === "text" ? delta.text : "")).join("");
}

/** One piece of an answer of Ollama's. */
function say(response: ServerResponse, content: string, done = false): void {
  record(response, { model: "talker:1b", message: { role: "assistant", content }, done, ...(done && { done_reason: "stop" }) });
  if (done) {
    response.end();
  }
}

describe("a chat", () => {
  afterEach(() => expect(wire.listeners("ollm/completion/delta")).toBe(0));

  it("streams while the model writes, and its deltas are the answer", async () => {
    const deltas: Delta[] = [];
    let goOn = (): void => undefined;
    ollama.answers["/api/chat"] = (_body, response) => {
      stream(response);
      say(response, "Good ");
      goOn = () => {
        say(response, "day");
        say(response, "", true);
      };
    };
    const result = await streamChat(wire, saying("Hi"), (delta) => {
      deltas.push(delta);
      if (delta.kind === "text" && delta.text.includes("Good")) {
        goOn();
      }
    });
    expect(textOf(deltas)).toBe("Good day");
    expect(result).toMatchObject({ message: { role: "assistant", content: "Good day" }, finishReason: "stop", provider: "local", model: "talker:1b" });
  });

  it("streams in order, and nothing comes behind the answer", async () => {
    const words = Array.from({ length: 200 }, (_, index) => `${index} `);
    ollama.answers["/api/chat"] = chat(...words.map((content) => ({ content })));
    const heard: CompletionDeltaParams[] = [];
    const hearing = wire.on("ollm/completion/delta", (delta) => heard.push(delta));
    let shown = "";
    const result = await streamChat(wire, saying("Count"), (delta) => (shown += textOf([delta])));
    const atTheEnd = heard.length;
    await wire.request("ollm/status", {});
    hearing.dispose();
    expect(shown).toBe(words.join(""));
    expect(result.message.content).toBe(shown);
    expect(heard.map(({ seq }) => seq)).toEqual(heard.map((_, index) => index));
    expect(heard).toHaveLength(atTheEnd);
  });

  it("tells thoughts and text apart", async () => {
    ollama.answers["/api/chat"] = chat({ thinking: "Hm." }, { content: "Yes" });
    const deltas: Delta[] = [];
    const { message } = await streamChat(wire, saying("Well?"), (delta) => deltas.push(delta));
    expect(textOf(deltas)).toBe("Yes");
    expect(deltas.map((delta) => (delta.kind === "thinking" ? delta.text : "")).join("")).toBe("Hm.");
    expect(message).toMatchObject({ content: "Yes", thinking: "Hm." });
  });

  it("does not mix with another one at the same time", async () => {
    const asking: [string, ServerResponse][] = [];
    ollama.answers["/api/chat"] = (body, response) => {
      stream(response);
      const [{ content }] = body["messages"] as [{ content: string }];
      asking.push([content, response]);
      if (asking.length === 2) {
        [1, 2, 3].forEach((round) => asking.forEach(([name, one]) => say(one, `${name}${round} `)));
        asking.forEach(([, one]) => say(one, "", true));
      }
    };
    const shown: Record<string, string> = {};
    const ask = async (name: string): Promise<ChatResult> =>
      streamChat(wire, saying(name), (delta) => (shown[name] = (shown[name] ?? "") + textOf([delta])));
    const results = await Promise.all([ask("a"), ask("b")]);
    expect(shown).toEqual({ a: "a1 a2 a3 ", b: "b1 b2 b3 " });
    expect(results.map(({ message }) => message.content)).toEqual(["a1 a2 a3 ", "b1 b2 b3 "]);
  });

  it("that is cancelled closes the server's socket", async () => {
    ollama.answers["/api/chat"] = endlessChat();
    const stop = new CancellationTokenSource();
    const error = await failure(streamChat(wire, saying("Count"), () => stop.cancel(), stop.token));
    expect(wasCancelled(error)).toBe(true);
    await vi.waitFor(() => expect(ollama.left).toEqual(["/api/chat"]));
  });

  it("goes to the provider that is named", async () => {
    other.answers["/api/chat"] = chat({ content: "I am another one." });
    const { provider, message } = await streamChat(wire, saying("Hi", { provider: "other", model: "talker:1b" }), () => undefined);
    expect([provider, message.content]).toEqual(["other", "I am another one."]);
    expect(ollama.asked).toEqual([]);
  });
});

describe("a failure is a sentence with its way out", () => {
  it.each<[string, Partial<ChatParams>, ScriptedOllama["answers"][string], RegExp]>([
    [
      "where a model is not there",
      {},
      (_body, response) => send(response, { error: "model 'talker:1b' not found" }, 404),
      /^Ollama at [^\n ]+ answered 404: model 'talker:1b' not found\. Get it with [^\n]+\.$/,
    ],
    ["where nobody listens", { provider: "nobody" }, chat(), /^Cannot connect to Ollama at http:\/\/127\.0\.0\.1:\d+: nothing is listening there\. Is the server running\? [^\n]+\.$/],
    ["where a provider is not known", { provider: "none" }, chat(), /^[^\n]*none[^\n]*\. [^\n]+\.$/],
    ["where a key is asked for", {}, (_body, response) => send(response, { error: "unauthorized" }, 401), /^[^\n]*401[^\n]*\. [^\n]+\.$/],
  ])("%s", async (_what, params, answer, expected) => {
    ollama.answers["/api/chat"] = answer;
    const error = await failure(streamChat(wire, saying("Hi", params), () => undefined));
    expect(sentence(error)).toMatch(expected);
    expect(dataOf(error)).toMatchObject({ kind: expect.any(String) as string });
    expect(wasCancelled(error)).toBe(false);
  });

  it("where an answer breaks off, and has what there was", async () => {
    ollama.answers["/api/chat"] = (_body, response) => {
      stream(response);
      say(response, "Once upon a");
      response.write("", () => response.destroy());
    };
    const error = await failure(streamChat(wire, saying("Hi"), () => undefined));
    expect(sentence(error)).toMatch(/^[^\n]+\. [^\n]+\.$/);
    expect(dataOf(error)?.partialText).toBe("Once upon a");
  });
});

describe("the models view", () => {
  const names = (nodes: readonly Node[]): string[] => nodes.filter((node) => node.kind === "provider").map(({ provider }) => provider.name);

  it("shows the providers that answer, and their models", async () => {
    ollama.models = ["talker:1b", "thinker:8b"];
    const nodes = await topNodes(wire);
    ollama.models = ["talker:1b"];
    expect(names(nodes)).toEqual(expect.arrayContaining(["local", "other"]));
    expect(names(nodes)).not.toContain("nobody");
    const local = nodes.find((node) => node.kind === "provider" && node.provider.name === "local");
    expect(show(local!)).toMatchObject({ label: "local", description: "Ollama · in use", icon: "server", context: "provider pull" });
    const children = childNodes(local!, "talker:1b").map(show);
    expect(children.map(({ label, icon }) => [label, icon])).toEqual([["talker:1b", "check"], ["thinker:8b", "circle-outline"]]);
    expect(children[0]?.description).toContain("1.2B · Q4_K_M · 1.3 GB");
    expect(children[0]?.context).toBe("model chat completion delete load");
  });

  it("shows the provider in use with what is wrong, though it does not answer", async () => {
    const session = await open({ userSettings: { ...settings, provider: "nobody" } });
    const nodes = await topNodes(session);
    const down = nodes.find((node) => node.kind === "provider" && node.provider.name === "nobody");
    expect(childNodes(down!, undefined)).toEqual([{ kind: "note", text: expect.stringMatching(/nothing is listening there/) as string }]);
  });
});

describe("a pull", () => {
  it("tells how far it is", async () => {
    let goOn = (): void => undefined;
    ollama.answers["/api/pull"] = (_body, response) => {
      stream(response);
      record(response, { status: "pulling manifest" });
      record(response, { status: "pulling 0000", digest: "sha256:0000", total: 200, completed: 50 });
      goOn = () => {
        record(response, { status: "success" });
        response.end();
      };
    };
    const told: (string | number)[] = [];
    const hearing = wire.onProgress("work", ({ kind, percentage }) => {
      told.push(percentage ?? kind);
      if (percentage !== undefined) {
        goOn();
      }
    });
    const changed = vi.fn();
    const hearingChanges = wire.on("ollm/models/didChange", changed);
    expect(await wire.request("ollm/models/pull", { model: "talker:3b", workDoneToken: "work" })).toEqual({ provider: "local", model: "talker:3b" });
    await vi.waitFor(() => expect(changed).toHaveBeenCalledWith({ provider: "local" }));
    hearing.dispose();
    hearingChanges.dispose();
    expect(told).toEqual(["begin", "report", 25, "report", "end"]);
    expect(ollama.last("/api/pull")).toMatchObject({ model: "talker:3b" });
  });

  it("that is cancelled closes the server's socket", async () => {
    const stop = new CancellationTokenSource();
    ollama.answers["/api/pull"] = (_body, response) => {
      stream(response);
      record(response, { status: "pulling manifest" });
      stop.cancel();
    };
    expect(wasCancelled(await failure(wire.request("ollm/models/pull", { model: "talker:7b" }, stop.token)))).toBe(true);
    await vi.waitFor(() => expect(ollama.left).toEqual(["/api/pull"]));
  });
});

describe("the doctor", () => {
  it("tries every provider that is in use, and no other one", async () => {
    const told: string[] = [];
    const text = await examine(wire, (provider) => told.push(provider));
    expect(told).toContain("local");
    expect(told).not.toContain("nobody");
    expect(text).toMatch(/^# Doctor\n\nollm-daemon \S+, protocol \d+\.\d+\n\n/);
    expect(text).toContain(`## local: ready\n\nOllama · ${ollama.url}\n`);
    expect(text).toMatch(/\ntalker:1b wrote its first word after \d+ ms/);
    expect(text).toContain("| talker:1b | 1.3 GB |");
  });

  it("says what is wrong with a provider, and with the settings", async () => {
    const session = await open({ userSettings: { ...settings, provider: "nobody", aliases: { bad: "none/a" } } });
    const text = await examine(session, () => undefined);
    expect(text).toMatch(/\n## nobody: cannot be reached\n\n[^\n]+\n\n\*\*[^\n]*nothing is listening there\.\*\* Is the server running\?/);
    expect(text).toMatch(/\n- [^\n]*bad[^\n]*\n/);
  });
});

describe("diagnostics", () => {
  const secrets = ["sk-", "X-Secret", "example", "alice", "10.9.8.7"];

  it("of settings that are full of secrets hold none of them", async () => {
    const userSettings = {
      provider: "gpu",
      model: "/home/alice/models/a.gguf",
      providers: {
        gpu: {
          kind: "openai-compatible",
          baseUrl: "http://gpu.corp.example:8000/v1",
          headers: { Authorization: "Bearer sk-header" },
          proxy: "http://10.9.8.7:3128",
          caFile: "/home/alice/ca.pem",
          clientCert: "/home/alice/cert.pem",
          clientKey: "/home/alice/key.pem",
          timeouts: { connect: 3 },
        },
        embedded: { modelPath: "/home/alice/tiny.gguf" },
        local: { baseUrl: ollama.url },
      },
      aliases: { fast: "gpu//home/alice/models/b" },
      options: { stop: ["alice"], seed: 7, extraBody: { user: "alice" } },
      completion: { extraBody: { user: "alice" } },
      privacy: { exclude: ["alice/**"] },
    };
    const layers = toLayers(Object.keys(userSettings), (key) => ({ globalValue: userSettings[key as keyof typeof userSettings] }), new Map([["gpu", "sk-stored"]]));
    const session = await open({ ...layers });
    const { settings: effective } = await session.request("ollm/config/get", {});
    const text = diagnostics({ extension: "0.1.0" }, "1.0", await session.request("ollm/status", {}), effective);
    expect(text).toContain("provider = gpu (editor user settings)");
    expect(text).toContain("providers.gpu.baseUrl = (another machine) (editor user settings)");
    expect(text).toContain("providers.local.baseUrl = (this machine) (editor user settings)");
    expect(text).toContain("providers.gpu.timeouts.connect = 3 (editor user settings)");
    expect(text).toContain("options.seed = 7 (editor user settings)");
    expect(text).toMatch(/\ncompletion: \{"requests":0,/);
    for (const key of ["model", "aliases.fast", "providers.gpu.apiKey", "providers.gpu.proxy", "providers.gpu.caFile", "providers.embedded.modelPath"]) {
      expect(text).toContain(`\n${key} = … (`);
    }
    expect(secrets.filter((secret) => text.includes(secret))).toEqual([]);
  });
});

describe("the daemon", () => {
  it("knows every method that the extension uses", () => {
    const used = methodsUsed();
    expect(used).toEqual(expect.arrayContaining(["ollm/chat", "ollm/completion/delta", "ollm/config/set", "ollm/models/pull", "ollm/status"]));
    expect(used.filter((method) => !wire.capability.methods.includes(method))).toEqual([]);
  });

  it("knows every setting of the manifest", async () => {
    const declared = Object.assign({}, ...MANIFEST.contributes.configuration.map(({ properties }) => properties)) as Record<string, Property>;
    const keys = settingKeys(MANIFEST);
    const session = await open(toLayers(keys, (key) => ({ globalValue: sample(key, declared[`ollm.${key}`]!) }), new Map()));
    const { settings: effective, problems } = await session.request("ollm/config/get", {});
    expect(problems).toEqual([]);
    const said = effective.filter(({ origin }) => origin.layer === "editor user settings").map(({ key }) => key);
    expect(keys.filter((key) => !said.some((one) => one === key || one.startsWith(`${key}.`)))).toEqual([]);
  });
});

describe("a workspace that wants its own server", () => {
  const ask = async (session: Session): Promise<string> => (await streamChat(session, saying("Hi"), () => undefined)).message.content;

  it("is kept from it until it is trusted and approved", async () => {
    other.answers["/api/chat"] = chat({ content: "I am not yours." });
    const session = await open({
      userSettings: { ...settings, providers: { local: { baseUrl: ollama.url } } },
      workspaceSettings: { providers: { local: { baseUrl: other.url } } },
      workspaceTrusted: false,
    });
    expect(await ask(session)).toBe("Hello");
    const { pending } = await session.request("ollm/trust/get", {});
    const digest = pending[0]?.digest ?? "";
    expect(await session.request("ollm/trust/approve", { digest })).toEqual({ approved: false });
    expect(await ask(session)).toBe("Hello");
    expect(other.asked).toEqual([]);

    await session.request("ollm/config/set", { workspaceTrusted: true });
    expect(await ask(session)).toBe("Hello");
    expect(await session.request("ollm/trust/approve", { digest })).toEqual({ approved: true });
    expect(await ask(session)).toBe("I am not yours.");
  });
});

/** Methods that stand in the extension's sources. */
function methodsUsed(): string[] {
  const files = readdirSync(join(CLIENT, "src"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts") && !name.endsWith(".gen.ts"));
  const texts = files.map((name) => readFileSync(join(CLIENT, "src", name), "utf8"));
  const found = texts.flatMap((text) => [...text.matchAll(/"(ollm\/[\w/]+)"/g)].map(([, method]) => method ?? ""));
  return [...new Set(found)].sort();
}

/** A value that a setting takes, and that is not its default. */
function sample(key: string, { type, minimum, maximum }: Property): unknown {
  const named: Record<string, unknown> = {
    provider: "local",
    providers: { gpu: { kind: "vllm", baseUrl: "http://127.0.0.1:9" } },
    aliases: { fast: "local/talker:1b" },
    fallbacks: { local: ["gpu"] },
    "completion.provider": "local",
    "completion.languages": { python: false },
  };
  if (key in named) {
    return named[key];
  }
  switch ([type].flat()[0]) {
    case "boolean":
      return true;
    case "array":
      return ["x"];
    case "object":
      return { user: "me" };
    case "string":
      return "codellama";
    default:
      return Math.min(maximum ?? 1, Math.max(minimum ?? 1, 1));
  }
}
