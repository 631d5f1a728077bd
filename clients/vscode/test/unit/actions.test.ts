import { describe, expect, it } from "vitest";
import { providerFor } from "../../src/models/actions.js";
import type { DetectedServer } from "../../src/protocol.gen.js";
import { MANIFEST } from "./world.js";

const baseUrl = "http://127.0.0.1:5000";
const server: DetectedServer = { baseUrl, title: "A server", state: "ready" };

describe("a server that was found", () => {
  it.each<[string, DetectedServer, ReturnType<typeof providerFor>]>([
    ["and is configured needs no settings", { ...server, provider: "gpu", backend: "vllm" }, { provider: "gpu" }],
    ["and is Ollama is the provider local", { ...server, backend: "ollama" }, { provider: "local", settings: { baseUrl } }],
    ["and is vLLM is the provider vllm", { ...server, backend: "vllm" }, { provider: "vllm", settings: { baseUrl } }],
    ["and is another one is named by its backend", { ...server, backend: "tabbyapi" }, { provider: "tabbyapi", settings: { kind: "openai-compatible", baseUrl, backend: "tabbyapi" } }],
    ["and does not say who it is speaks as OpenAI does", server, { provider: "openai-compatible", settings: { baseUrl } }],
  ])("%s", (_what, found, expected) => {
    expect(providerFor(found, {})).toEqual(expected);
  });

  it("keeps its name when it is configured already, and gets another one beside one that leads elsewhere", () => {
    const found = { ...server, backend: "llamacpp" };
    expect(providerFor(found, { llamacpp: { baseUrl, timeouts: { idle: 9 } } }).provider).toBe("llamacpp");
    const others = { llamacpp: { baseUrl: "http://127.0.0.1:1" }, "llamacpp-2": { baseUrl: "http://127.0.0.1:2" } };
    expect(providerFor(found, others).provider).toBe("llamacpp-3");
    const second = providerFor({ ...server, backend: "ollama" }, { local: { baseUrl: "http://127.0.0.1:1" } });
    expect(second).toEqual({ provider: "local-2", settings: { kind: "local", baseUrl } });
  });

  interface Providers {
    additionalProperties: { properties: Record<string, { enum?: string[] }> };
  }
  const declared = MANIFEST.contributes.configuration.flatMap(({ properties }) => (properties["ollm.providers"] ?? []) as unknown as Providers);
  const allowed = declared[0]!.additionalProperties.properties;

  it.each(["ollama", "vllm", ...(allowed["backend"]?.enum ?? [])])("and is %s is set in words that the manifest allows", (backend) => {
    const { settings } = providerFor({ ...server, backend }, {});
    expect(Object.keys(allowed)).toEqual(expect.arrayContaining(Object.keys(settings ?? {})));
    expect([undefined, ...(allowed["kind"]?.enum ?? [])]).toContain(settings?.["kind"]);
    expect([undefined, ...(allowed["backend"]?.enum ?? [])]).toContain(settings?.["backend"]);
  });
});
