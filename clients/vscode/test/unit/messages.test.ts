import { describe, expect, it } from "vitest";
import { toInput, toWireMessages, toWireTools, type RequestMessage } from "../../src/chat/messages.js";
import type { Message } from "../../src/protocol.gen.js";

/** Roles as VS Code numbers them. */
const [USER, ASSISTANT, SYSTEM] = [1, 2, 3];

const PIXEL = { mimeType: "image/png", data: Uint8Array.from([1, 2, 3]) };
const IMAGE = { type: "image", mediaType: "image/png", data: "AQID" };

const text = (value: string): object => ({ value });
const data = (mimeType: string, content: string): object => ({ mimeType, data: new TextEncoder().encode(content) });
const call = (callId: string, name: string, input: object): object => ({ callId, name, input });
const result = (callId: string, ...content: unknown[]): object => ({ callId, content });
const thinking = (value: string | string[]): object => ({ value, id: "1", metadata: undefined });

describe("messages", () => {
  it.each<[string, RequestMessage[], unknown[]]>([
    ["keep their roles", [said(SYSTEM, text("Be brief.")), said(USER, text("Hi")), said(ASSISTANT, text("Hello"))], [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello" },
    ]],
    ["of several texts are one text", [said(USER, text("a"), text("b"))], [{ role: "user", content: "ab" }]],
    ["with an image are parts, in order", [said(USER, text("Look:"), PIXEL, text("Well?"))], [
      { role: "user", content: [{ type: "text", text: "Look:" }, IMAGE, { type: "text", text: "Well?" }] },
    ]],
    ["hold what data says in words", [said(USER, data("text/plain", "a"), data("application/json", "{}"))], [{ role: "user", content: "a{}" }]],
    ["leave out data that nobody can read", [said(USER, text("a"), data("audio/wav", "x"))], [{ role: "user", content: "a" }]],
    ["leave out earlier thoughts", [said(ASSISTANT, thinking("Hm."), thinking(["Hm", "."]), text("Yes"))], [{ role: "assistant", content: "Yes" }]],
    ["leave out parts of unknown shape", [said(USER, text("a"), { value: { tsx: true } }, null, 7)], [{ role: "user", content: "a" }]],
    ["that hold nothing are none", [said(USER), said(USER, text("")), said(ASSISTANT, thinking("Hm."))], []],
    ["with calls hold their arguments as JSON", [said(ASSISTANT, text("Let me see."), call("1", "weather", { city: "Paris" }))], [
      { role: "assistant", content: "Let me see.", toolCalls: [{ id: "1", name: "weather", arguments: '{"city":"Paris"}' }] },
    ]],
    ["with calls alone have an empty text", [said(ASSISTANT, call("1", "a", {}), call("2", "b", {}))], [
      { role: "assistant", content: "", toolCalls: [{ id: "1", name: "a", arguments: "{}" }, { id: "2", name: "b", arguments: "{}" }] },
    ]],
    ["with results become turns before what else they say", [said(USER, text("And now?"), result("1", text("sun"), "ny"), result("2", text("rain")))], [
      { role: "tool", toolCallId: "1", content: "sunny" },
      { role: "tool", toolCallId: "2", content: "rain" },
      { role: "user", content: "And now?" },
    ]],
    ["with results alone are turns of tools alone", [said(USER, result("1", text("sun")))], [{ role: "tool", toolCallId: "1", content: "sun" }]],
    ["keep a result that is empty", [said(USER, result("1"))], [{ role: "tool", toolCallId: "1", content: "" }]],
    ["show images of results in a turn of the user", [said(USER, result("1", text("a map"), PIXEL))], [
      { role: "tool", toolCallId: "1", content: "a map" },
      { role: "user", content: [IMAGE] },
    ]],
  ])("%s", (_what, messages, expected) => {
    expect(toWireMessages(messages)).toEqual(expected satisfies unknown as Message[]);
  });
});

describe("tools", () => {
  it("keep their schema", () => {
    const inputSchema = { type: "object", properties: {} };
    expect(toWireTools([{ name: "a", description: "b", inputSchema }])).toEqual([{ name: "a", description: "b", parameters: inputSchema }]);
  });

  it("without a schema have no parameters", () => {
    expect(toWireTools([{ name: "a", description: "b", inputSchema: undefined }])).toEqual([{ name: "a", description: "b" }]);
  });
});

describe("the arguments of a call", () => {
  it.each<[string, string, object | undefined]>([
    ["are an object", '{"city":"Paris"}', { city: "Paris" }],
    ["that are empty are an empty object", "", {}],
    ["that are cut are none", '{"city":"Pa', undefined],
    ["that are a text are none", '"Paris"', undefined],
    ["that are null are none", "null", undefined],
    ["that are a list are none", '["Paris"]', undefined],
  ])("%s", (_what, written, expected) => {
    expect(toInput({ id: "1", name: "weather", arguments: written })).toEqual(expected);
  });
});

function said(role: number | undefined, ...content: unknown[]): RequestMessage {
  return { role: role ?? 0, content };
}
