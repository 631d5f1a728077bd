import { describe, expect, it } from "vitest";
import { childNodes, show, type ModelNode, type Node, type ProviderNode } from "../../src/models/nodes.js";
import type { ModelInfo, ProviderCapabilities } from "../../src/protocol.gen.js";
import { TALKER, provider } from "./records.js";

const SIZE = `${(4096).toLocaleString()} tokens`;

function providerNode(said: Partial<ProviderNode> = {}): ProviderNode {
  return { kind: "provider", provider: provider(), models: [], trouble: undefined, ...said };
}

function modelNode(model: ModelInfo, isChosen = false, can: Partial<ProviderCapabilities> = {}): ModelNode {
  return { kind: "model", provider: provider({}, can), model, isChosen };
}

describe("below a provider", () => {
  it.each<[string, ProviderNode, Node[]]>([
    ["is its trouble", providerNode({ trouble: "Nobody listens." }), [{ kind: "note", text: "Nobody listens." }]],
    ["is a note where it has no models", providerNode(), [{ kind: "note", text: "No models." }]],
    ["is a note to pull one where that can be done", providerNode({ provider: provider({}, { pullModels: true }) }), [{ kind: "note", text: "No models yet; pull one." }]],
  ])("%s", (_what, node, expected) => {
    expect(childNodes(node, undefined)).toEqual(expected);
  });

  it.each([
    ["is the chosen model of the provider in use", true, "talker:1b", ["talker:1b"]],
    ["is no chosen model of another provider", false, "talker:1b", []],
    ["is no chosen model if none is set", true, undefined, []],
  ])("%s", (_what, isDefault, chosen, expected) => {
    const node = providerNode({ provider: provider({ isDefault }), models: [TALKER, { id: "other" }] });
    const children = childNodes(node, chosen) as ModelNode[];
    expect(children.map(({ model }) => model.id)).toEqual(["talker:1b", "other"]);
    expect(children.filter(({ isChosen }) => isChosen).map(({ model }) => model.id)).toEqual(expected);
  });

  it("is nothing below a model, a server and a note", () => {
    const server = { baseUrl: "http://localhost:1234", title: "LM Studio", state: "ready" as const };
    const leaves: Node[] = [modelNode(TALKER), { kind: "server", server }, { kind: "note", text: "x" }];
    expect(leaves.flatMap((node) => childNodes(node, undefined))).toEqual([]);
  });
});

describe("a provider", () => {
  it.each([
    ["shows who it is", providerNode(), { label: "local", description: "Ollama", tooltip: "Ollama · http://localhost:11434", icon: "server", context: "provider" }],
    ["shows that it is in use", providerNode({ provider: provider({ isDefault: true }) }), { description: "Ollama · in use" }],
    ["shows what is wrong", providerNode({ trouble: "Nobody listens." }), { tooltip: "Nobody listens.", icon: "warning" }],
    ["can pull where that can be done", providerNode({ provider: provider({}, { pullModels: true }) }), { context: "provider pull" }],
    ["cannot pull while it is down", providerNode({ provider: provider({}, { pullModels: true }), trouble: "x" }), { context: "provider" }],
  ])("%s", (_what, node, expected) => {
    expect(show(node)).toMatchObject(expected);
  });

  it("without an address shows its kind alone", () => {
    const { baseUrl, ...rest } = provider();
    expect(baseUrl).toBeDefined();
    expect(show(providerNode({ provider: rest })).tooltip).toBe("Ollama");
  });
});

describe("a model", () => {
  it.each<[string, ModelNode, object]>([
    ["shows what is known of it", modelNode(TALKER), {
      label: "talker:1b",
      description: `1.2B · Q4_K_M · 1.3 GB · ${SIZE}`,
      tooltip: `talker:1b · 1.2B · Q4_K_M · 1.3 GB · ${SIZE} · completion, tools · in memory`,
      icon: "circle-filled",
    }],
    ["shows its largest window where it has none yet", modelNode({ id: "a", maxContextLength: 4096 }), { description: SIZE }],
    ["of which nothing is told shows its name", modelNode({ id: "a" }), { label: "a", description: "", tooltip: "a", icon: "circle-outline" }],
    ["shows that it is in use", modelNode(TALKER, true), { description: `in use · 1.2B · Q4_K_M · 1.3 GB · ${SIZE}`, icon: "check" }],
  ])("%s", (_what, node, expected) => {
    expect(show(node)).toMatchObject(expected);
  });

  const can = { deleteModels: true, loadModels: true, unloadModels: true };

  it.each<[string, ModelInfo, Partial<ProviderCapabilities>, string]>([
    ["in memory can be unloaded", { id: "a", loaded: true }, can, "model chat completion delete unload"],
    ["not in memory can be loaded", { id: "a", loaded: false }, can, "model chat completion delete load"],
    ["that does not tell can be loaded", { id: "a" }, can, "model chat completion delete load"],
    ["of a server that can do nothing is only for use", TALKER, {}, "model chat completion"],
    ["that embeds is not for chat and completion", { id: "a", capabilities: ["embedding"] }, can, "model delete load"],
  ])("%s", (_what, model, server, expected) => {
    expect(show(modelNode(model, false, server)).context).toBe(expected);
  });
});

it("a server that nobody configured shows where it is", () => {
  const server = { baseUrl: "http://localhost:1234", title: "LM Studio", state: "ready" as const };
  expect(show({ kind: "server", server })).toEqual({
    label: "LM Studio",
    description: "http://localhost:1234 · not configured",
    tooltip: "LM Studio answers at http://localhost:1234 and is in no setting yet.",
    icon: "broadcast",
    context: "detected",
  });
});

it("a note shows its text", () => {
  expect(show({ kind: "note", text: "No models." })).toMatchObject({ label: "No models.", tooltip: "No models.", context: "note" });
});
