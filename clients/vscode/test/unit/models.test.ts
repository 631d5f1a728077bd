import { describe, expect, it } from "vitest";
import { USUAL_WINDOW, estimate, toChatModel, tooLarge, type ChatModel } from "../../src/chat/models.js";
import { isForChat } from "../../src/models/facts.js";
import type { ModelInfo } from "../../src/protocol.gen.js";
import { provider } from "./records.js";

describe("the window of a model", () => {
  it.each<[string, Partial<ModelInfo>, number]>([
    ["is the one it was given", { contextLength: 8192, maxContextLength: 131072 }, 8192],
    ["is the usual one where it could have more", { maxContextLength: 131072 }, USUAL_WINDOW],
    ["is its largest where that is small", { maxContextLength: 2048 }, 2048],
    ["is the usual one where nothing is told", {}, USUAL_WINDOW],
  ])("%s", (_what, model, expected) => {
    const { maxInputTokens, maxOutputTokens } = toChatModel(provider(), { id: "a", ...model });
    expect(maxInputTokens + maxOutputTokens).toBe(expected);
  });
});

describe("a model in VS Code", () => {
  it("is named by its provider and its own name", () => {
    const model = toChatModel(provider({ name: "gpu", backend: "vLLM" }), { id: "Qwen/Qwen2.5-Coder:7b", parameterSize: "7B", quantization: "Q4_K_M" });
    expect(model).toMatchObject({
      id: "gpu/Qwen/Qwen2.5-Coder:7b",
      name: "Qwen/Qwen2.5-Coder:7b",
      family: "Qwen/Qwen2.5-Coder",
      version: "7B",
      detail: "gpu",
      tooltip: `vLLM: Qwen/Qwen2.5-Coder:7b · 7B · Q4_K_M · ${USUAL_WINDOW.toLocaleString()} tokens`,
      provider: "gpu",
      model: "Qwen/Qwen2.5-Coder:7b",
    });
  });

  it.each([
    ["qwen", "qwen"],
    ["qwen:1b-q4", "qwen"],
    ["llama@2", "llama"],
  ])("of the name %s is of the family %s", (id, family) => {
    expect(toChatModel(provider(), { id }).family).toBe(family);
  });

  it.each([
    [2048, 1536, 512],
    [4096, 3072, 1024],
    [16_384, 12_288, 4096],
    [131_072, 126_976, 4096],
  ])("with a window of %i reads %i tokens and writes %i", (contextLength, maxInputTokens, maxOutputTokens) => {
    expect(toChatModel(provider(), { id: "a", contextLength })).toMatchObject({ maxInputTokens, maxOutputTokens });
  });

  it.each<[string, string[] | undefined, boolean, ChatModel["capabilities"]]>([
    ["sees and calls if it can", ["completion", "vision", "tools"], false, { imageInput: true, toolCalling: true }],
    ["does neither if it cannot", ["completion"], true, { imageInput: false, toolCalling: false }],
    ["that does not tell calls where its server can", undefined, true, { imageInput: false, toolCalling: true }],
    ["that does not tell calls not where its server cannot", undefined, false, { imageInput: false, toolCalling: false }],
  ])("%s", (_what, capabilities, tools, expected) => {
    const model = { id: "a", ...(capabilities && { capabilities }) };
    expect(toChatModel(provider({}, { tools }), model).capabilities).toEqual(expected);
  });

  it.each<[string, string[] | undefined, boolean]>([
    ["that completes is for chat", ["completion", "tools"], true],
    ["that embeds is not for chat", ["embedding"], false],
    ["that does not tell is for chat", undefined, true],
  ])("%s", (_what, capabilities, expected) => {
    expect(isForChat({ id: "a", ...(capabilities && { capabilities }) })).toBe(expected);
  });
});

describe("tools and messages", () => {
  const model = toChatModel(provider(), { id: "small", contextLength: 1000 });
  const tool = { name: "tool", description: "x".repeat(400) };

  it("that fit are sent", () => {
    expect(tooLarge(model, [tool], ["Hi"])).toBeUndefined();
  });

  it("without any tool are left to the server to refuse", () => {
    expect(tooLarge(model, [], ["x".repeat(100_000)])).toBeUndefined();
  });

  it("are left to the server where nobody knows the window", () => {
    const unknown = toChatModel(provider(), { id: "small", maxContextLength: 131_072 });
    expect(tooLarge(unknown, [tool], ["x".repeat(100_000)])).toBeUndefined();
  });

  it("that cannot fit are told of with what to do", () => {
    const tools = Array.from({ length: 10 }, () => tool);
    const reason = `10 tools take about ${estimate(tools).toLocaleString()} tokens, and the window of small has ${(1000).toLocaleString()}:`;
    expect(tooLarge(model, tools, ["Hi"])).toBe(`${reason} choose Ask instead of Agent, fewer tools, or a model with a larger window.`);
  });

  it("are counted together", () => {
    expect(tooLarge(model, [tool], ["x".repeat(3_400)])).toBeUndefined();
    expect(tooLarge(model, [tool], ["x".repeat(3_600)])).toBeDefined();
  });

  it("that are mostly what was said are told of with another way out", () => {
    const all = (estimate([tool]) + estimate(["x".repeat(3_600)])).toLocaleString();
    expect(tooLarge(model, [tool], ["x".repeat(3_600)])).toBe(
      `This conversation takes about ${all} tokens, and the window of small has ${(1000).toLocaleString()}: begin a new one, or choose a model with a larger window.`,
    );
  });

  it("that are mostly tools are told of with the tools' way out, however long the talk is", () => {
    const tools = Array.from({ length: 6 }, () => tool);
    expect(tooLarge(model, tools, ["x".repeat(2_000)])).toMatch(/^6 tools take about/);
  });

  it("do not count the bytes of an image", () => {
    const image = { role: "user", content: [{ type: "image", mediaType: "image/png", data: "A".repeat(100_000) }] };
    expect(tooLarge(model, [tool], [image])).toBeUndefined();
  });
});

describe("an estimate", () => {
  it.each([
    ["", 0],
    ["abcd", 1],
    ["abcde", 2],
    [[{ role: "user" }], 5],
    [[{ type: "image", mediaType: "image/png", data: "AAAAAAAAAAAA" }], 1],
    [[{ name: "data", properties: { data: {} } }], 11],
  ])("of %j is %i tokens", (value, expected) => {
    expect(estimate(value)).toBe(expected);
  });
});
