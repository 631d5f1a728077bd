/** Keeps what the window shows in step with the daemon and the settings. */

import * as vscode from "vscode";
import type { Bar } from "./bar.js";
import type { ChatProvider } from "./chat/provider.js";
import { setContext } from "./context.js";
import type { Daemon } from "./daemon/daemon.js";
import type { Preparation } from "./daemon/prepare.js";
import { sentence } from "./errors.js";
import type { ModelsView } from "./models/view.js";

/** Settings that belong together are written one after the other. */
const SETTLE_MS = 100;

/** What is kept in step. */
export interface Parts {
  bar: Bar;
  models: ModelsView;
  chat: ChatProvider;
}

export class Follower implements vscode.Disposable {
  readonly #following: vscode.Disposable;
  #refreshing: NodeJS.Timeout | undefined;
  readonly #told = new Set<string>();

  constructor(
    private readonly daemon: Daemon,
    private readonly preparation: Preparation,
    private readonly shown: Parts,
    private readonly log: vscode.LogOutputChannel,
  ) {
    const { bar } = shown;
    this.#following = vscode.Disposable.from(
      daemon.onDidChangeState((state) => {
        bar.know({ daemon: state, unavailable: undefined, completing: 0 });
        void setContext("state", state.kind);
        if (state.kind === "running") {
          this.#soon(() => this.sendSettings()); // they may have changed since it was started
        } else if (state.kind === "failed") {
          this.refreshSoon();
        }
      }),
      daemon.on("ollm/completion/didChange", ({ state, message }) => {
        const unavailable = message ?? vscode.l10n.t("Nothing can be offered.");
        bar.know({ unavailable: state === "ready" ? undefined : unavailable });
        if (state === "unavailable") {
          void this.#tellOnce(unavailable);
        }
      }),
      daemon.on("ollm/models/didChange", () => this.refreshSoon()),
      daemon.on("ollm/config/didChange", () => this.refreshSoon()),
      vscode.window.onDidChangeActiveTextEditor(() => this.#lookAtLanguage()),
      vscode.workspace.onDidGrantWorkspaceTrust(() => this.#soon(() => daemon.restart())),
      vscode.workspace.onDidChangeConfiguration((change) => {
        if (change.affectsConfiguration("ollm.daemon")) {
          this.#soon(() => daemon.restart());
        } else if (change.affectsConfiguration("ollm")) {
          this.#soon(() => this.sendSettings());
        }
      }),
    );
  }

  dispose(): void {
    clearTimeout(this.#refreshing);
    this.#following.dispose();
  }

  /** Ask the daemon what counts now. */
  async refresh(): Promise<void> {
    const { bar, models, chat } = this.shown;
    if (this.daemon.state.kind === "running") {
      const [{ settings }, { providers }] = await Promise.all([
        this.daemon.request("ollm/config/get", {}),
        this.daemon.request("ollm/providers/list", {}),
      ]);
      const model = settings.find((setting) => setting.key === "model")?.value;
      const provider = providers.find((one) => one.isDefault)?.name;
      bar.know({ provider, model: typeof model === "string" ? model : undefined });
      await setContext("hasServer", settings.some(({ key, origin }) => key === "provider" && origin.layer !== "default"));
    }
    this.#lookAtLanguage();
    models.refresh();
    await chat.refresh();
  }

  /** Tell the daemon the settings of the editor. */
  async sendSettings(): Promise<void> {
    if (this.daemon.state.kind === "running") {
      await this.daemon.request("ollm/config/set", await this.preparation.settings());
    }
    this.refreshSoon();
  }

  /** Several changes at once are one. */
  refreshSoon(): void {
    clearTimeout(this.#refreshing);
    this.#refreshing = setTimeout(() => this.#soon(() => this.refresh()), SETTLE_MS);
  }

  #lookAtLanguage(): void {
    const language = vscode.window.activeTextEditor?.document.languageId;
    const completion = vscode.workspace.getConfiguration("ollm.completion");
    const languages = completion.get<Record<string, boolean>>("languages", {});
    const offered = (language === undefined ? undefined : languages[language]) ?? completion.get("enabled", true);
    this.shown.bar.know({ language, offered });
  }

  /** A window that types on hears of one trouble once. */
  async #tellOnce(trouble: string): Promise<void> {
    if (!this.#told.has(trouble)) {
      this.#told.add(trouble);
      const [doctor, setUp] = [vscode.l10n.t("Doctor"), vscode.l10n.t("Set Up…")];
      const chosen = await vscode.window.showWarningMessage(trouble, doctor, setUp);
      if (chosen) {
        await vscode.commands.executeCommand(chosen === doctor ? "ollm.doctor" : "ollm.setUp");
      }
    }
  }

  #soon(action: () => Promise<void>): void {
    action().catch((error: unknown) => this.log.debug(sentence(error)));
  }
}
