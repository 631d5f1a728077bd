/** Our models in VS Code's own chat. */

import * as vscode from "vscode";
import { Trouble, sentence, wasCancelled } from "../errors.js";
import { isForChat } from "../models/facts.js";
import type { ChatParams, Delta, GenerationOptions, ModelInfo, ProviderInfo } from "../protocol.gen.js";
import type { Wire } from "../wire.js";
import { toInput, toWireMessages, toWireTools, type RequestMessage } from "./messages.js";
import { estimate, toChatModel, tooLarge, type ChatModel } from "./models.js";
import { streamChat } from "./stream.js";

/** A class of VS Code that is not in the stable types; providers may report it. */
type ThinkingPart = new (value: string) => vscode.LanguageModelTextPart;

type Progress = vscode.Progress<vscode.LanguageModelResponsePart>;

export class ChatProvider implements vscode.LanguageModelChatProvider<ChatModel>, vscode.Disposable {
  #chats = 0;
  /** As VS Code was last told. */
  #models: ChatModel[] | undefined;
  readonly #changed = new vscode.EventEmitter<void>();
  readonly onDidChangeLanguageModelChatInformation = this.#changed.event;

  constructor(
    private readonly wire: Wire,
    private readonly log: vscode.LogOutputChannel,
    private readonly working: (key: string, text: string | undefined) => void,
  ) {}

  /**
   * See which models there are now, and let VS Code ask for them if they are others. While it does, it finds none,
   * so it must not ask for nothing.
   */
  async refresh(): Promise<void> {
    const before = JSON.stringify(this.#models);
    this.#models = await this.#list();
    if (JSON.stringify(this.#models) !== before) {
      this.#changed.fire();
    }
  }

  dispose(): void {
    this.#changed.dispose();
  }

  async provideLanguageModelChatInformation(): Promise<ChatModel[]> {
    this.#models ??= await this.#list();
    return this.#models;
  }

  async #list(): Promise<ChatModel[]> {
    const wanted = vscode.workspace.getConfiguration("ollm").get<string>("chat.models");
    if (wanted === "none") {
      return [];
    }
    try {
      const { providers } = await this.wire.request("ollm/providers/list", {});
      // The model for a try stays out of the way of real ones.
      const asked = providers.filter((one) => one.isDefault || (wanted !== "chosen" && one.kind !== "embedded"));
      // VS Code chooses the first one for a user who has not.
      asked.sort((left, right) => Number(right.isDefault) - Number(left.isDefault));
      const lists = await Promise.all(
        asked.map(async (provider) => {
          const models = await this.#modelsOf(provider);
          return models.filter(isForChat).map((model) => toChatModel(provider, model));
        }),
      );
      return lists.flat();
    } catch (error) {
      this.log.debug(`No models for VS Code's chat: ${sentence(error)}`);
      return [];
    }
  }

  /** None of a provider that does not answer. An older Ollama tells what a model can do only when asked for it. */
  async #modelsOf({ name: provider, kind }: ProviderInfo): Promise<ModelInfo[]> {
    try {
      const { models } = await this.wire.request("ollm/models/list", { provider });
      const complete = async (listed: ModelInfo): Promise<ModelInfo> => {
        if (listed.capabilities || kind !== "local") {
          return listed;
        }
        const shown = this.wire.request("ollm/models/show", { provider, model: listed.id });
        return (await shown.catch(() => ({ model: listed }))).model;
      };
      return await Promise.all(models.map(complete));
    } catch (error) {
      this.log.debug(`${provider}: ${sentence(error)}`);
      return [];
    }
  }

  async provideLanguageModelChatResponse(
    model: ChatModel,
    messages: readonly vscode.LanguageModelChatRequestMessage[],
    options: vscode.ProvideLanguageModelChatResponseOptions,
    progress: Progress,
    token: vscode.CancellationToken,
  ): Promise<void> {
    const params = toParams(model, messages, options);
    const reason = tooLarge(model, params.tools ?? [], params.messages);
    if (reason) {
      throw new Trouble(reason);
    }
    const key = `chat-${++this.#chats}`;
    try {
      const show = (delta: Delta): void => {
        this.working(key, delta.kind === "status" ? delta.message : undefined);
        report(progress, delta);
      };
      const result = await streamChat(this.wire, params, show, token);
      for (const call of result.message.toolCalls ?? []) {
        const input = toInput(call);
        if (!input) {
          this.log.warn(`${model.id} called ${call.name} with arguments that are no JSON object: ${call.arguments}`);
        }
        progress.report(new vscode.LanguageModelToolCallPart(call.id, call.name, input ?? {}));
      }
      for (const warning of result.warnings ?? []) {
        this.log.warn(warning);
      }
      if (result.finishReason === "length") {
        this.log.warn(`The answer of ${model.id} was cut: it reached its limit of tokens.`);
      }
    } catch (error) {
      throw wasCancelled(error) ? new vscode.CancellationError() : new Trouble(sentence(error));
    } finally {
      this.working(key, undefined);
    }
  }

  async provideTokenCount(
    model: ChatModel,
    text: string | vscode.LanguageModelChatRequestMessage,
    token: vscode.CancellationToken,
  ): Promise<number> {
    const messages = typeof text === "string" ? [{ role: "user" as const, content: text }] : toWireMessages([text]);
    if (messages.length === 0) {
      return 0;
    }
    const params = { messages, provider: model.provider, model: model.model };
    return this.wire.request("ollm/tokens/count", params, token).then(
      ({ tokens }) => tokens,
      () => estimate(messages),
    );
  }
}

function toParams(
  model: ChatModel,
  messages: readonly RequestMessage[],
  options: vscode.ProvideLanguageModelChatResponseOptions,
): ChatParams {
  const tools = toWireTools(options.tools ?? []);
  const sampling = toOptions(options.modelOptions ?? {});
  return {
    messages: toWireMessages(messages),
    provider: model.provider,
    model: model.model,
    ...(tools.length > 0 && { tools }),
    ...(tools.length > 0 && options.toolMode === vscode.LanguageModelChatToolMode.Required && { toolChoice: "required" }),
    ...(sampling && { options: sampling }),
  };
}

/** What callers of VS Code's API name as OpenAI does → our names. */
const OPTIONS = {
  temperature: "temperature",
  top_p: "topP",
  max_tokens: "maxTokens",
  stop: "stop",
  seed: "seed",
} as const satisfies Record<string, keyof GenerationOptions>;

function toOptions(given: Readonly<Record<string, unknown>>): GenerationOptions | undefined {
  const known = Object.entries(OPTIONS)
    .filter(([theirs]) => given[theirs] !== undefined)
    .map(([theirs, ours]) => [ours, given[theirs]]);
  return known.length > 0 ? (Object.fromEntries(known) as GenerationOptions) : undefined;
}

function report(progress: Progress, delta: Delta): void {
  if (delta.kind === "text") {
    progress.report(new vscode.LanguageModelTextPart(delta.text));
  } else if (delta.kind === "thinking") {
    const { LanguageModelThinkingPart } = vscode as unknown as { LanguageModelThinkingPart?: ThinkingPart };
    if (LanguageModelThinkingPart) {
      progress.report(new LanguageModelThinkingPart(delta.text));
    }
  }
}
