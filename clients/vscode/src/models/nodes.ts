/** The models view as data: providers, their models, and servers that nobody configured. */

import { l10n } from "vscode";
import { sentence } from "../errors.js";
import { modelName } from "../names.js";
import type { DetectedServer, ModelInfo, ProviderInfo } from "../protocol.gen.js";
import type { Wire } from "../wire.js";
import { isForChat, sizeOf, windowOf } from "./facts.js";

export type Node = ProviderNode | ModelNode | ServerNode | NoteNode;

export interface ProviderNode {
  kind: "provider";
  provider: ProviderInfo;
  models: ModelInfo[];
  /** Why there are no models. */
  trouble: string | undefined;
}
export interface ModelNode {
  kind: "model";
  provider: ProviderInfo;
  model: ModelInfo;
  isChosen: boolean;
}
export interface ServerNode {
  kind: "server";
  server: DetectedServer;
}
export interface NoteNode {
  kind: "note";
  text: string;
}

/** What a tree item shows. `context` holds the words that menus ask for. */
export interface Item {
  label: string;
  description: string;
  tooltip: string;
  icon: string;
  context: string;
}

/** Providers that answer, or are the user's choice, then servers that could be used. */
export async function topNodes(wire: Wire): Promise<Node[]> {
  const [{ providers }, { servers }] = await Promise.all([
    wire.request("ollm/providers/list", {}),
    wire.request("ollm/providers/detect", {}).catch(() => ({ servers: [] as DetectedServer[] })),
  ]);
  const nodes = await Promise.all(providers.map((provider) => providerNode(wire, provider)));
  const known = nodes.filter((node) => node.provider.isDefault || node.trouble === undefined);
  const others = servers.filter((server) => server.provider === undefined);
  return [...known, ...others.map((server): ServerNode => ({ kind: "server", server }))];
}

async function providerNode(wire: Wire, provider: ProviderInfo): Promise<ProviderNode> {
  try {
    const { models } = await wire.request("ollm/models/list", { provider: provider.name });
    return { kind: "provider", provider, models, trouble: undefined };
  } catch (error) {
    return { kind: "provider", provider, models: [], trouble: sentence(error) };
  }
}

/** @param chosen The model of the settings. */
export function childNodes(node: Node, chosen: string | undefined): Node[] {
  if (node.kind !== "provider") {
    return [];
  }
  const { provider, models, trouble } = node;
  if (trouble !== undefined) {
    return [{ kind: "note", text: trouble }];
  }
  if (models.length === 0) {
    const text = provider.capabilities.pullModels ? l10n.t("No models yet; pull one.") : l10n.t("No models.");
    return [{ kind: "note", text }];
  }
  return models.map((model) => ({ kind: "model", provider, model, isChosen: provider.isDefault && model.id === chosen }));
}

export function show(node: Node): Item {
  switch (node.kind) {
    case "provider":
      return showProvider(node);
    case "model":
      return showModel(node);
    case "server":
      return {
        label: node.server.title,
        description: l10n.t("{0} · not configured", node.server.baseUrl),
        tooltip: l10n.t("{0} answers at {1} and is in no setting yet.", node.server.title, node.server.baseUrl),
        icon: "broadcast",
        context: "detected",
      };
    case "note":
      return { label: node.text, description: "", tooltip: node.text, icon: "info", context: "note" };
  }
}

function showProvider({ provider, trouble }: ProviderNode): Item {
  const can = provider.capabilities;
  const address = provider.baseUrl ?? "";
  return {
    label: provider.name,
    description: [provider.backend, provider.isDefault ? l10n.t("in use") : ""].filter(Boolean).join(" · "),
    tooltip: trouble ?? [provider.backend, address].filter(Boolean).join(" · "),
    icon: trouble === undefined ? "server" : "warning",
    context: words("provider", can.pullModels && trouble === undefined && "pull"),
  };
}

function showModel({ provider, model, isChosen }: ModelNode): Item {
  const can = provider.capabilities;
  const window = windowOf(model);
  const tokens = window === undefined ? "" : l10n.t("{0} tokens", window.toLocaleString());
  const facts = [model.parameterSize, model.quantization, sizeOf(model), tokens];
  const abilities = model.capabilities?.join(", ") ?? "";
  const talks = isForChat(model);
  return {
    label: modelName(model.id),
    description: [isChosen ? l10n.t("in use") : "", ...facts].filter(Boolean).join(" · "),
    tooltip: [model.id, ...facts, abilities, isChosen ? l10n.t("in use") : "", model.loaded ? l10n.t("in memory") : ""]
      .filter(Boolean).join(" · "),
    icon: isChosen ? "check" : model.loaded ? "circle-filled" : "circle-outline",
    context: words(
      "model",
      talks && "chat",
      talks && "completion",
      can.deleteModels && "delete",
      can.loadModels && !model.loaded && "load",
      can.unloadModels && model.loaded === true && "unload",
    ),
  };
}

function words(...parts: (string | false)[]): string {
  return parts.filter(Boolean).join(" ");
}
