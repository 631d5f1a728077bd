/** First run: from nothing to a model that answers, or the one thing to start. */

import * as vscode from "vscode";
import type { Daemon } from "./daemon/daemon.js";
import { Trouble } from "./errors.js";
import { choose, useServer } from "./models/actions.js";
import { modelName, stateName } from "./names.js";
import type { ModelInfo } from "./protocol.gen.js";

/** `act` tells whether a server was chosen in the end. */
type Choice = vscode.QuickPickItem & { act: () => Promise<boolean> };

const EMBEDDED = "embedded";

/** What setting up needs beside the daemon. */
export interface Help {
  /** Install what the embedded model needs. */
  installEmbedded(): Promise<void>;
  /** Offer what can be done about a daemon that does not start. */
  offer(reason: string): Promise<void>;
  /** Tell the daemon the settings of now. */
  sendSettings(): Promise<void>;
}

/** Find servers, let the user take one, and see that it has a model. */
export async function setUp(daemon: Daemon, help: Help): Promise<void> {
  if (daemon.state.kind === "failed") {
    await help.offer(daemon.state.reason);
    return;
  }
  const { servers } = await daemon.request("ollm/providers/detect", {});
  const choices: Choice[] = servers.map((server) => ({
    label: `$(server) ${server.title}`,
    description: server.baseUrl,
    detail: [server.version, stateName(server.state)].filter(Boolean).join(" · "),
    act: () => useServer(server).then(() => true),
  }));
  choices.push({
    label: `$(beaker) ${vscode.l10n.t("Try a small model inside the daemon")}`,
    description: vscode.l10n.t("135 million parameters: for trying out, not for work"),
    act: async () => {
      const isThere = daemon.request("ollm/models/list", { provider: EMBEDDED }).then(() => true);
      if (!(await isThere.catch(() => false))) {
        await help.installEmbedded();
      }
      await choose({ provider: EMBEDDED, model: undefined });
      return true;
    },
  });
  choices.push({
    label: `$(globe) ${vscode.l10n.t("A server on another machine…")}`,
    act: useAddress,
  });
  const placeHolder =
    servers.length > 0
      ? vscode.l10n.t("Which server is to answer?")
      : vscode.l10n.t("No server answers on this machine: start Ollama (`ollama serve`), LM Studio or another one, and look again.");
  // The user may have to look elsewhere, to start a server or for its address.
  const options = { title: vscode.l10n.t("Set up ollm"), placeHolder, ignoreFocusOut: true };
  const chosen = await vscode.window.showQuickPick(choices, options);
  if (!(await chosen?.act())) {
    return;
  }
  await help.sendSettings();
  await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: vscode.l10n.t("Asking the model for a first word…") },
    () => check(daemon),
  );
}

async function useAddress(): Promise<boolean> {
  const t = vscode.l10n.t;
  const baseUrl = await vscode.window.showInputBox({
    prompt: t("Address of the server"),
    placeHolder: "http://gpu-server:8000",
    ignoreFocusOut: true,
    validateInput: (text) => (/^https?:\/\/[^/\s]+/.test(text) ? undefined : t("Begin with http:// or https://")),
  });
  if (baseUrl === undefined) {
    return false;
  }
  const kinds = [
    { label: "Ollama", backend: "ollama" },
    { label: "vLLM", backend: "vllm" },
    { label: t("LM Studio, llama.cpp or another one"), description: t("it is asked who it is"), backend: undefined },
  ];
  const kind = await vscode.window.showQuickPick(kinds, { title: t("What answers there?"), ignoreFocusOut: true });
  if (kind) {
    await useServer({ baseUrl, title: baseUrl, state: "ready", ...(kind.backend && { backend: kind.backend }) });
  }
  return kind !== undefined;
}

/** One real answer; what is wrong is said with its way out. */
async function check(daemon: Daemon): Promise<void> {
  const result = await daemon.request("ollm/providers/check", { generate: true });
  const [problem] = result.problems;
  if (!result.trial) {
    const message = problem?.message ?? noModel(result.models);
    throw new Trouble(message, problem?.hint ?? "");
  }
  const { model, firstTokenMs } = result.trial;
  const ask = vscode.l10n.t("Ask It Something");
  const answers = vscode.l10n.t("{0} answers: first word after {1} ms.", modelName(model), Math.round(firstTokenMs));
  const said = [answers, problem?.message, problem?.hint].filter(Boolean).join(" ");
  void vscode.window.showInformationMessage(said, ask).then((chosen) => {
    if (chosen) {
      void vscode.commands.executeCommand("ollm.tryChat");
    }
  });
}

function noModel(models: readonly ModelInfo[]): string {
  return models.length === 0 ? vscode.l10n.t("The server has no model yet.") : vscode.l10n.t("The model said nothing.");
}
