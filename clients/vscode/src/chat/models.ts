/** A model of a provider as VS Code's model picker shows it. */

import { l10n } from "vscode";
import { modelName } from "../names.js";
import type { ModelInfo, ProviderInfo } from "../protocol.gen.js";

/** As `LanguageModelChatInformation`. */
export interface ChatModel {
  id: string;
  name: string;
  family: string;
  version: string;
  detail: string;
  tooltip: string;
  maxInputTokens: number;
  maxOutputTokens: number;
  capabilities: { imageInput: boolean; toolCalling: boolean };
  provider: string;
  model: string;
  /** Tokens of its window, where the server tells. */
  window: number | undefined;
}

/** Of a server that does not tell: what Ollama gives a model on a machine with little memory. */
export const USUAL_WINDOW = 4096;
const LONGEST_ANSWER = 4096;
/** English and code, for an estimate. */
const CHARACTERS_PER_TOKEN = 4;

export function toChatModel(provider: ProviderInfo, model: ModelInfo): ChatModel {
  const window = model.contextLength ?? Math.min(model.maxContextLength ?? USUAL_WINDOW, USUAL_WINDOW);
  const maxOutputTokens = Math.min(LONGEST_ANSWER, Math.floor(window / 4));
  const facts = [model.parameterSize, model.quantization, l10n.t("{0} tokens", window.toLocaleString())];
  return {
    id: `${provider.name}/${model.id}`,
    name: modelName(model.id),
    family: modelName(model.id).split(/[:@]/)[0] ?? modelName(model.id),
    version: model.parameterSize ?? "",
    detail: provider.name,
    tooltip: [`${provider.backend}: ${model.id}`, ...facts].filter(Boolean).join(" · "),
    maxInputTokens: window - maxOutputTokens,
    maxOutputTokens,
    capabilities: {
      imageInput: model.capabilities?.includes("vision") ?? false,
      toolCalling: model.capabilities?.includes("tools") ?? provider.capabilities.tools,
    },
    provider: provider.name,
    model: model.id,
    window: model.contextLength,
  };
}

/** Why tools and messages cannot fit a model's window, or nothing. An unknown window is the server's to judge. */
export function tooLarge(model: ChatModel, tools: readonly unknown[], messages: readonly unknown[]): string | undefined {
  const { window } = model;
  const forTools = estimate(tools);
  const all = forTools + estimate(messages);
  if (window === undefined || tools.length === 0 || all < window) {
    return undefined;
  }
  const figures = [model.name, window.toLocaleString()] as const;
  return forTools > all / 2
    ? l10n.t(
        "{0} tools take about {1} tokens, and the window of {2} has {3}: choose Ask instead of Agent, fewer tools, or a model with a larger window.",
        tools.length,
        forTools.toLocaleString(),
        ...figures,
      )
    : l10n.t(
        "This conversation takes about {0} tokens, and the window of {1} has {2}: begin a new one, or choose a model with a larger window.",
        all.toLocaleString(),
        ...figures,
      );
}

/** Tokens of a text, or of what holds texts; what images take is the server's to say. */
export function estimate(value: unknown): number {
  const text = typeof value === "string" ? value : JSON.stringify(value, withoutImages);
  return Math.ceil(text.length / CHARACTERS_PER_TOKEN);
}

function withoutImages(_key: string, part: unknown): unknown {
  const isImage = typeof part === "object" && part !== null && "data" in part && "mediaType" in part;
  return isImage ? "" : part;
}
