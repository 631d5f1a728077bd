/** VS Code's chat messages and tools as the daemon takes them. Parts are known by their shape, not their class. */

import type { ContentPart, Message, Tool, ToolCall } from "../protocol.gen.js";

/** What a `LanguageModelChatRequestMessage` has. Role 3 is the system's; it is in no stable enum. */
export interface RequestMessage {
  role: number;
  content: readonly unknown[];
}

export interface RequestTool {
  name: string;
  description: string;
  inputSchema?: object | undefined;
}

const USER = 1;
const ASSISTANT = 2;

interface TextPart {
  value: string;
}
interface DataPart {
  mimeType: string;
  data: Uint8Array;
}
interface ToolCallPart {
  callId: string;
  name: string;
  input: object;
}
interface ToolResultPart {
  callId: string;
  content: readonly unknown[];
}

/** Tool results become turns of their own, before what else stands in the same message. */
export function toWireMessages(messages: readonly RequestMessage[]): Message[] {
  return messages.flatMap(toTurns);
}

export function toWireTools(tools: readonly RequestTool[]): Tool[] {
  return tools.map(({ name, description, inputSchema }) => ({
    name,
    description,
    ...(inputSchema && { parameters: inputSchema as Record<string, unknown> }),
  }));
}

/** The arguments of a call as an object; `undefined` when the model wrote something else. */
export function toInput(call: ToolCall): object | undefined {
  try {
    const input: unknown = JSON.parse(call.arguments || "{}");
    return typeof input === "object" && input !== null && !Array.isArray(input) ? input : undefined;
  } catch {
    return undefined;
  }
}

function toTurns(message: RequestMessage): Message[] {
  const results: Message[] = [];
  const parts: ContentPart[] = [];
  const toolCalls: ToolCall[] = [];
  for (const part of message.content) {
    if (isToolCall(part)) {
      toolCalls.push({ id: part.callId, name: part.name, arguments: JSON.stringify(part.input) });
    } else if (isToolResult(part)) {
      const content = part.content.map(textOf).join("");
      results.push({ role: "tool", toolCallId: part.callId, content });
      parts.push(...part.content.filter(isImage).map(toImage));
    } else if (isImage(part)) {
      parts.push(toImage(part));
    } else {
      const text = textOf(part);
      if (text) {
        parts.push({ type: "text", text });
      }
    }
  }
  if (parts.length === 0 && toolCalls.length === 0) {
    return results;
  }
  const turn: Message = { role: roleOf(message.role), content: joined(parts) };
  return [...results, toolCalls.length > 0 ? { ...turn, toolCalls } : turn];
}

function roleOf(role: number): "user" | "assistant" | "system" {
  return role === USER ? "user" : role === ASSISTANT ? "assistant" : "system";
}

/** Plain text where there is no image: every server takes that. */
function joined(parts: readonly ContentPart[]): string | ContentPart[] {
  const texts = parts.filter((part) => part.type === "text");
  return texts.length === parts.length ? texts.map((part) => part.text).join("") : [...parts];
}

/** A run of text. What the model thought before is not told to it again. */
function textOf(part: unknown): string {
  if (typeof part === "string") {
    return part;
  }
  if (isText(part)) {
    return part.value;
  }
  return isData(part) && isReadable(part.mimeType) ? new TextDecoder().decode(part.data) : "";
}

function isReadable(mimeType: string): boolean {
  return mimeType.startsWith("text/") || mimeType === "application/json";
}

function toImage(part: DataPart): ContentPart {
  return { type: "image", mediaType: part.mimeType, data: Buffer.from(part.data).toString("base64") };
}

function has(part: unknown, ...keys: string[]): boolean {
  return typeof part === "object" && part !== null && keys.every((key) => key in part);
}

function isText(part: unknown): part is TextPart {
  return has(part, "value") && !isThinking(part) && typeof (part as TextPart).value === "string";
}

function isThinking(part: unknown): boolean {
  return has(part, "metadata");
}

function isData(part: unknown): part is DataPart {
  return has(part, "mimeType", "data");
}

function isImage(part: unknown): part is DataPart {
  return isData(part) && part.mimeType.startsWith("image/");
}

function isToolCall(part: unknown): part is ToolCallPart {
  return has(part, "callId", "name", "input");
}

function isToolResult(part: unknown): part is ToolResultPart {
  return has(part, "callId", "content");
}
