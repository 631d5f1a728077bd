import { describe, expect, it } from "vitest";
import { diagnostics, examine, renderCheck } from "../../src/doctor.js";
import { Trouble } from "../../src/errors.js";
import type { EffectiveSetting, ProvidersCheckResult, SettingOrigin, StatusResult } from "../../src/protocol.gen.js";
import type { Wire } from "../../src/wire.js";
import { TALKER, provider } from "./records.js";

const CHECK: ProvidersCheckResult = {
  provider: "local",
  baseUrl: "http://localhost:11434",
  state: "ready",
  backend: "Ollama",
  version: "0.30.1",
  key: "none",
  models: [],
  problems: [],
};

describe("what was found of a provider", () => {
  it.each<[string, Partial<ProvidersCheckResult>, string]>([
    ["names it, its server and its address", {}, "## local: ready\n\nOllama 0.30.1 · http://localhost:11434\n"],
    [
      "tells each problem with its way out",
      { state: "unreachable", problems: [{ message: "Nobody listens.", hint: "Start it." }, { message: "No model." }] },
      "## local: cannot be reached\n\nOllama 0.30.1 · http://localhost:11434\n\n**Nobody listens.** Start it.\n\n**No model.**\n",
    ],
    [
      "tells how fast it is",
      { trial: { model: "talker:1b", firstTokenMs: 120.6, tokensPerSecond: 31.4 } },
      "## local: ready\n\nOllama 0.30.1 · http://localhost:11434\n\ntalker:1b wrote its first word after 121 ms, 31 tokens/s.\n",
    ],
    [
      "tells of no rate that is not known",
      { trial: { model: "talker:1b", firstTokenMs: 120 } },
      "## local: ready\n\nOllama 0.30.1 · http://localhost:11434\n\ntalker:1b wrote its first word after 120 ms.\n",
    ],
    [
      "lists its models, those in memory in bold",
      { models: [TALKER, { id: "b", maxContextLength: 2048 }, { id: "c" }] },
      [
        "## local: ready\n\nOllama 0.30.1 · http://localhost:11434\n",
        "| Model | Size | Window | Can |",
        "| --- | ---: | ---: | --- |",
        `| **talker:1b** | 1.3 GB | ${(4096).toLocaleString()} | completion, tools |`,
        `| b |  | ${(2048).toLocaleString()} |  |`,
        "| c |  |  |  |\n",
      ].join("\n"),
    ],
  ])("%s", (_what, said, expected) => {
    expect(renderCheck({ ...CHECK, ...said })).toBe(expected);
  });

  it("names one without version and address by its server alone", () => {
    const bare: ProvidersCheckResult = { provider: "embedded", state: "ready", backend: "llama.cpp", key: "none", models: [], problems: [] };
    expect(renderCheck(bare)).toBe("## embedded: ready\n\nllama.cpp\n");
  });

  it.each([
    ["ready", "ready"],
    ["loading", "loading a model"],
    ["locked", "wants an API key"],
    ["unreachable", "cannot be reached"],
    ["broken", "does not work"],
  ] as const)("says of one that is %s: %s", (state, expected) => {
    expect(renderCheck({ ...CHECK, state })).toContain(`## local: ${expected}\n`);
  });
});

describe("what servers say", () => {
  const evil = "[a](http://x) ![b](c) <img src=d> | `e` **f** __g__ ~h~ \\ {i} # j\n\n## k\n\n| l |";
  const text =
    "\\[a\\]\\(http://x\\) \\!\\[b\\]\\(c\\) \\<img src=d\\> \\| \\`e\\` \\*\\*f\\*\\* \\_\\_g\\_\\_ \\~h\\~ \\\\ \\{i\\} \\# j \\#\\# k \\| l \\|";

  it("is text where it is checked", () => {
    const check: ProvidersCheckResult = {
      ...CHECK,
      provider: evil,
      baseUrl: evil,
      backend: evil,
      version: evil,
      problems: [{ message: evil }],
      trial: { model: evil, firstTokenMs: 1 },
      models: [{ id: evil, capabilities: [evil] }, { id: evil, loaded: true }],
    };
    expect(renderCheck(check)).toBe(
      [
        `## ${text}: ready\n\n${text} ${text} · ${text}\n\n**${text}**\n\n${text} wrote its first word after 1 ms.\n`,
        "| Model | Size | Window | Can |",
        "| --- | ---: | ---: | --- |",
        `| ${text} |  |  | ${text} |`,
        `| **${text}** |  |  |  |\n`,
      ].join("\n"),
    );
  });

  it("is text where it is not checked, and where that fails", async () => {
    const answers: Record<string, unknown> = {
      "ollm/status": { version: "1.0", protocolVersion: "1.0" },
      "ollm/providers/list": { providers: [provider({ name: evil, isDefault: true })] },
      "ollm/providers/detect": { servers: [{ title: evil, baseUrl: evil, state: "ready" }] },
      "ollm/config/get": { settings: [], problems: [{ message: evil, severity: "error" }] },
    };
    const request = (method: string): Promise<unknown> => (method in answers ? Promise.resolve(answers[method]) : Promise.reject(new Trouble(evil)));
    expect(await examine({ request } as unknown as Wire, () => undefined)).toBe(
      `# Doctor\n\nollm-daemon 1.0, protocol 1.0\n\n- ${text}\n## ${text}\n\n${text}\n\n## Also here, and not configured\n\n- ${text} · ${text}\n`,
    );
  });
});

describe("diagnostics", () => {
  const user: SettingOrigin = { layer: "editor user settings" };
  const of = (...settings: EffectiveSetting[]): string => diagnostics({}, "running", undefined, settings);

  it("tell versions, counts and what is set", () => {
    const completion = { requests: 3, generations: 2, superseded: 0, cacheHits: 1, joined: 0, offered: 2, accepted: 1, rejected: 0, failures: 0 };
    const status: StatusResult = { version: "1.0", protocolVersion: "1.0", pid: 4711, uptimeMs: 1, connections: 1, requests: 1, upstreamConnections: 0, completion };
    const settings = [{ key: "options.seed", value: 7, origin: user }];
    expect(diagnostics({ extension: "0.1.0", vscode: "1.104.0" }, "1.0, protocol 1.0", status, settings)).toBe(
      `extension: 0.1.0\nvscode: 1.104.0\ndaemon: 1.0, protocol 1.0\ncompletion: ${JSON.stringify(completion)}\n\noptions.seed = 7 (editor user settings)\n`,
    );
  });

  it("tell nothing of a daemon that does not run but its state", () => {
    expect(diagnostics({ extension: "0.1.0" }, "failed", undefined, [])).toBe("extension: 0.1.0\ndaemon: failed\n\n");
  });

  it("leave out what nobody set", () => {
    expect(of({ key: "provider", value: "local", origin: { layer: "default" } })).not.toContain("provider");
  });

  it("name the layer and not the file of a setting", () => {
    const text = of({ key: "model", value: "a", origin: { layer: "workspace file", source: "/home/alice/work/.ollm.yaml", line: 3 } });
    expect(text).toContain("model = a (workspace file)");
    expect(text).not.toContain("alice");
  });

  it.each<[string, unknown, string]>([
    ["provider", "gpu", "gpu"],
    ["model", "Qwen/Qwen2.5-Coder-7B", "Qwen/Qwen2.5-Coder-7B"],
    ["completion.enabled", false, "false"],
    ["options.temperature", 0.2, "0.2"],
    ["providers.gpu.kind", "vllm", "vllm"],
    ["providers.gpu.timeouts.connect", 3, "3"],
    ["aliases.fast", "gpu/small", "gpu/small"],
  ])("show %s", (key, value, shown) => {
    expect(of({ key, value, origin: user })).toContain(`${key} = ${shown} (`);
  });

  it.each([
    ["http://localhost:11434", "(this machine)"],
    ["http://127.0.0.1:8000/v1", "(this machine)"],
    ["https://[::1]:8000", "(this machine)"],
    ["http://gpu.corp.example:8000", "(another machine)"],
    ["http://localhost.corp.example:8000", "(another machine)"],
    ["http://gpu.corp.example/v1//localhost", "(another machine)"],
    ["http://10.1.2.3", "(another machine)"],
  ])("cut the address %s to %s", (value, shown) => {
    const text = of({ key: "providers.gpu.baseUrl", value, origin: user });
    expect(text).toContain(`providers.gpu.baseUrl = ${shown} (`);
    expect(text).not.toContain(value);
  });

  it.each<[string, unknown]>([
    ["providers.gpu.apiKey", "***"],
    ["providers.gpu.apiKeyFile", "/home/alice/key"],
    ["providers.gpu.headers.Authorization", "Bearer sk-1"],
    ["providers.gpu.proxy", "http://proxy.corp.example:3128"],
    ["providers.gpu.caFile", "ca.pem"],
    ["providers.gpu.clientCert", "cert.pem"],
    ["providers.gpu.clientKey", "key.pem"],
    ["providers.embedded.modelPath", "tiny.gguf"],
    ["options.extraBody", { user: "alice" }],
    ["options.extraBody.user", "alice"],
    ["completion.extraBody.user", "alice"],
    ["options.stop", ["alice"]],
    ["privacy.exclude", ["alice/**"]],
    ["privacy.exclude.0", "alice"],
    ["fallbacks.gpu", ["alice"]],
    ["model", "/home/alice/models/a.gguf"],
    ["model", "~/models/a.gguf"],
    ["model", "./models/a.gguf"],
    ["model", "C:\\Users\\alice\\a.gguf"],
    ["completion.model", "C:/Users/alice/a.gguf"],
    ["aliases.fast", "gpu//home/alice/models/a"],
    ["provider", "http://gpu.corp.example:8000"],
  ])("do not show what %s is: %j", (key, value) => {
    expect(of({ key, value, origin: user })).toContain(`${key} = … (`);
  });
});
