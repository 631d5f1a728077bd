/** What can be done with models and servers. */

import * as vscode from "vscode";
import type { Daemon } from "../daemon/daemon.js";
import type { DetectedServer, ProviderInfo } from "../protocol.gen.js";
import type { ModelNode, Node, ServerNode } from "./nodes.js";

type Work = "ollm/models/pull" | "ollm/models/load";

let works = 0;

export class ModelActions {
  constructor(
    private readonly daemon: Daemon,
    private readonly working: (key: string, text: string | undefined) => void,
  ) {}

  /** @param node What is chosen in the view; one that cannot pull does not count. */
  async pull(node?: Node, named?: string): Promise<void> {
    const provider = node?.kind === "provider" && canPull(node.provider) ? node.provider : await this.#choosePuller();
    const prompt = vscode.l10n.t("Which model is {0} to get?", provider?.name ?? "");
    const model = named ?? (provider && (await vscode.window.showInputBox({ prompt, placeHolder: "qwen2.5-coder:1.5b" })));
    if (provider && model) {
      await this.#work("ollm/models/pull", provider.name, model, vscode.l10n.t("Pulling {0}", model));
    }
  }

  async delete({ provider, model }: ModelNode): Promise<void> {
    const yes = vscode.l10n.t("Delete");
    const question = vscode.l10n.t("Delete {0} from {1}?", model.id, provider.name);
    const detail = vscode.l10n.t("Its files are removed from the server.");
    if ((await vscode.window.showWarningMessage(question, { modal: true, detail }, yes)) === yes) {
      await this.daemon.request("ollm/models/delete", { provider: provider.name, model: model.id });
    }
  }

  async load({ provider, model }: ModelNode): Promise<void> {
    await this.#work("ollm/models/load", provider.name, model.id, vscode.l10n.t("Loading {0}", model.id));
  }

  async unload({ provider, model }: ModelNode): Promise<void> {
    await this.daemon.request("ollm/models/unload", { provider: provider.name, model: model.id });
  }

  async useForChat({ provider, model }: ModelNode): Promise<void> {
    await choose({ provider: provider.name, model: model.id });
  }

  async useForCompletion({ provider, model }: ModelNode): Promise<void> {
    await choose({ "completion.provider": provider.name, "completion.model": model.id });
  }

  async useServer(node: ServerNode): Promise<void> {
    await useServer(node.server);
  }

  async #choosePuller(): Promise<ProviderInfo | undefined> {
    const { providers } = await this.daemon.request("ollm/providers/list", {});
    const able = providers.filter(canPull);
    const inUse = able.find((provider) => provider.isDefault);
    if (able.length <= 1 || inUse) {
      return inUse ?? able[0];
    }
    const items = able.map((provider) => ({ label: provider.name, description: provider.backend, provider }));
    const title = vscode.l10n.t("Which server is to get a model?");
    return (await vscode.window.showQuickPick(items, { title }))?.provider;
  }

  /** A long request with a notification that can stop it. */
  async #work(method: Work, provider: string, model: string, title: string): Promise<void> {
    const location = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
    await vscode.window.withProgress(location, async (progress, token) => {
      const workDoneToken = `work-${++works}`;
      let done = 0;
      const hearing = await this.daemon.onProgress(workDoneToken, ({ message, percentage }) => {
        const increment = Math.max(0, (percentage ?? done) - done);
        done += increment;
        progress.report({ increment, ...(message !== undefined && { message }) });
        this.working(workDoneToken, percentage === undefined ? title : `${title} ${percentage} %`);
      });
      try {
        await this.daemon.request(method, { provider, model, workDoneToken }, token);
      } finally {
        hearing.dispose();
        this.working(workDoneToken, undefined);
      }
    });
  }
}

function canPull(provider: ProviderInfo): boolean {
  return provider.capabilities.pullModels;
}

/** Configure a server that was found, and use it. */
export async function useServer(server: DetectedServer): Promise<void> {
  const configuration = vscode.workspace.getConfiguration("ollm");
  const mine = configuration.inspect<Providers>("providers")?.globalValue ?? {};
  const { provider, settings } = providerFor(server, mine);
  if (settings) {
    const entry = { ...mine[provider], ...settings };
    await configuration.update("providers", { ...mine, [provider]: entry }, vscode.ConfigurationTarget.Global);
  }
  await choose({ provider, model: undefined });
}

type Providers = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/**
 * What the settings say about a server: nothing new where a provider leads there already, and a name of its own
 * where the usual one leads elsewhere.
 */
export function providerFor(
  server: DetectedServer,
  known: Providers,
): { provider: string; settings?: Record<string, string> } {
  if (server.provider !== undefined) {
    return { provider: server.provider };
  }
  const { baseUrl, backend } = server;
  const [usual, kind] = KINDS[backend ?? ""] ?? [backend ?? "openai-compatible", "openai-compatible"];
  const isFree = (name: string): boolean => (known[name]?.["baseUrl"] ?? baseUrl) === baseUrl;
  let provider = usual;
  for (let count = 2; !isFree(provider); count++) {
    provider = `${usual}-${count}`;
  }
  const named = kind === "openai-compatible" && backend ? { backend } : {};
  return { provider, settings: { ...(provider !== kind && { kind }), baseUrl, ...named } };
}

/** Backends that have an adapter of their own → the name of its provider, and its kind. */
const KINDS: Readonly<Record<string, readonly [string, string]>> = { ollama: ["local", "local"], vllm: ["vllm", "vllm"] };

/** Settings that belong together, written where one of them is set now: the workspace's stay the workspace's. */
export async function choose(settings: Readonly<Record<string, string | undefined>>): Promise<void> {
  const configuration = vscode.workspace.getConfiguration("ollm");
  const { Global, Workspace } = vscode.ConfigurationTarget;
  const keys = Object.keys(settings);
  const isOfWorkspace = keys.some((key) => configuration.inspect(key)?.workspaceValue !== undefined);
  for (const key of keys) {
    await configuration.update(key, settings[key], isOfWorkspace ? Workspace : Global);
  }
}
