/** Choosing a provider and a model from lists. */

import * as vscode from "vscode";
import type { Daemon } from "./daemon/daemon.js";
import { choose } from "./models/actions.js";

export async function pickProvider(daemon: Daemon): Promise<string | undefined> {
  const { providers } = await daemon.request("ollm/providers/list", {});
  const items = providers.map((one) => ({
    label: one.name,
    description: [one.backend, one.baseUrl].filter(Boolean).join(" · "),
    detail: one.isDefault ? vscode.l10n.t("in use") : "",
  }));
  const chosen = await vscode.window.showQuickPick(items, { title: vscode.l10n.t("Select a provider") });
  return chosen?.label;
}

/** Another provider has other models, so the model is its own choice until the user makes one. */
export async function selectProvider(daemon: Daemon): Promise<void> {
  const provider = await pickProvider(daemon);
  if (provider) {
    await choose({ provider, model: undefined });
  }
}

export async function selectModel(daemon: Daemon): Promise<void> {
  const { models, provider } = await daemon.request("ollm/models/list", {});
  const items = models.map((model) => {
    const facts = [model.parameterSize, model.quantization, model.loaded ? vscode.l10n.t("in memory") : ""];
    return { label: model.id, description: facts.filter(Boolean).join(" · ") };
  });
  const title = vscode.l10n.t("Select a model of {0}", provider);
  const placeHolder = items.length > 0 ? "" : vscode.l10n.t("It has no models yet.");
  const chosen = await vscode.window.showQuickPick(items, { title, placeHolder });
  if (chosen) {
    await choose({ model: chosen.label });
  }
}
