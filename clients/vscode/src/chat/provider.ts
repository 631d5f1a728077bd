/** Our models in VS Code's own chat. */

import * as vscode from "vscode";
import { Trouble, sentence, wasCancelled } from "../errors.js";
import type { ChatParams, Delta, GenerationOptions, ModelInfo } from "../protocol.gen.js";
import type { Wire } from "../wire.js";
import { toInput, toWireMessages, toWireTools, type RequestMessage } from "./messages.js";
import { estimate, isForChat, toChatModel, tooLarge, type ChatModel } from "./models.js";
import { streamChat } from "./stream.js";

/** A class of VS Code that is not in the stable types; providers may report it. */
type ThinkingPart = new (value: string) => vscode.LanguageModelTextPart;

type Progress = vscode.Progress<vscode.LanguageModelResponsePart>;

export class ChatProvider implements vscode.LanguageModelChatProvider<ChatModel>, vscode.Disposable {
  readonly #changed = new vscode.EventEmitter<void>();
  readonly onDidChangeLanguageModelChatInformation = this.#changed.event;

  constructor(
    private readonly wire: Wire,
    private readonly log: vscode.LogOutputChannel,
  ) {}

  /** Ask VS Code to ask again; without it a new provider's models are not in the picker. */
  refresh(): void {
    this.#changed.fire();
  }

  dispose(): void {
    this.#changed.dispose();
  }

  async provideLanguageModelChatInformation(
    _options: { silent: boolean },
    token: vscode.CancellationToken,
  ): Promise<ChatModel[]> {
    const wanted = vscode.workspace.getConfiguration("ollm").get<string>("chat.models");
    if (wanted === "none") {
      return [];
    }
    try {
      const { providers } = await this.wire.request("ollm/providers/list", {}, token);
      // The model for a try stays out of the way of real ones.
      const asked = providers.filter((one) => one.isDefault || (wanted !== "chosen" && one.kind !== "embedded"));
      // VS Code chooses the first one for a user who has not.
      asked.sort((left, right) => Number(right.isDefault) - Number(left.isDefault));
      const lists = await Promise.all(
        asked.map(async (provider) => {
          const models = await this.#modelsOf(provider.name, token);
          return models.filter(isForChat).map((model) => toChatModel(provider, model));
        }),
      );
      return lists.flat();
    } catch (error) {
      this.log.debug(`No models for VS Code's chat: ${sentence(error)}`);
      return [];
    }
  }

  /** None of a provider that does not answer. Servers whose list leaves out what a model can do are asked for each. */
  async #modelsOf(provider: string, token: vscode.CancellationToken): Promise<ModelInfo[]> {
    try {
      const { models } = await this.wire.request("ollm/models/list", { provider }, token);
      return await Promise.all(
        models.map(async (listed) => {
          if (listed.capabilities) {
            return listed;
          }
          const asked = { provider, model: listed.id };
          return (await this.wire.request("ollm/models/show", asked, token).catch(() => ({ model: listed }))).model;
        }),
      );
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
    try {
      const result = await streamChat(this.wire, params, (delta) => report(progress, delta), token);
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
    } catch (error) {
      throw wasCancelled(error) ? new vscode.CancellationError() : new Trouble(sentence(error));
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
