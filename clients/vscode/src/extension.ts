/** Puts the parts together. */

import * as vscode from "vscode";
import { Bar } from "./bar.js";
import { registerParticipant } from "./chat/participant.js";
import { ChatProvider } from "./chat/provider.js";
import { offerHelp, registerCommands } from "./commands.js";
import { Documents } from "./completion/documents.js";
import { OfferWatch } from "./completion/feedback.js";
import { completionMiddleware, followOffers } from "./completion/middleware.js";
import { setContext } from "./context.js";
import { clientFactory } from "./daemon/client.js";
import { Daemon } from "./daemon/daemon.js";
import { Preparation } from "./daemon/prepare.js";
import { Edits } from "./edits/edit.js";
import { Follower } from "./follow.js";
import { Keys } from "./keys.js";
import { ModelActions } from "./models/actions.js";
import { ModelsView } from "./models/view.js";
import { DoctorDocument } from "./report.js";

/** What the extension's own tests look at; nobody else gets hold of it, for it knows keys and approves routes. */
export interface Api {
  daemon: Daemon;
  bar: Bar;
  actions: ModelActions;
  edits: Edits;
  keys: Keys;
}

const FOR_TESTS = "OLLM_REPORT";

let running: Daemon | undefined;

export function activate(context: vscode.ExtensionContext): Api | undefined {
  const log = vscode.window.createOutputChannel("ollm", { log: true });
  const keys = new Keys(context.secrets, context.globalState);
  const preparation = new Preparation(context, keys, log);
  const bar = new Bar();
  const documents = new Documents();
  const watch = new OfferWatch((feedback) => daemon.tell("ollm/completion/feedback", feedback));
  const completion = completionMiddleware(watch, {
    offersIn: (document) => !bar.facts.paused && documents.has(document),
    count: (step) => bar.know({ completing: Math.max(0, bar.facts.completing + step) }),
    offered: () => void setContext("hasOffered", true),
  });
  const middleware = { ...documents.middleware, ...completion, workspace: { configuration } };
  const daemon: Daemon = new Daemon(() => preparation.start(), clientFactory(middleware, log), log);
  running = daemon;
  const working = bar.work.bind(bar);
  const chat = new ChatProvider(daemon, log, working);
  const models = new ModelsView(daemon, () => bar.facts.model);
  const actions = new ModelActions(daemon, working);
  const edits = new Edits(daemon);
  const doctor = new DoctorDocument(daemon);
  const follower = new Follower(daemon, preparation, { bar, models, chat }, log);
  const { version } = context.extension.packageJSON as { version: string };

  /** The daemon asks what cannot be told apart; what it gets so counts as the workspace's. */
  async function configuration({ items }: { items: { section?: string }[] }): Promise<unknown[]> {
    const { workspaceSettings } = await preparation.settings();
    return items.map(({ section }) => (section === "ollm" ? workspaceSettings : null));
  }

  context.subscriptions.push(
    bar,
    follower,
    daemon,
    chat,
    models,
    edits,
    doctor,
    registerCommands({ daemon, preparation, follower, bar, keys, actions, edits, doctor, log, version }),
    followOffers(watch),
    vscode.lm.registerLanguageModelChatProvider("ollm", chat),
    registerParticipant(daemon, () => void setContext("hasAnswered", true)),
    context.secrets.onDidChange(() => void follower.sendSettings().catch(() => undefined)),
    daemon.onDidChangeState((state) => {
      if (state.kind === "failed") {
        void offerHelp(state.reason, { preparation, log });
      }
    }),
    log,
  );
  daemon.start().catch(() => undefined);
  return process.env[FOR_TESTS] ? { daemon, bar, actions, edits, keys } : undefined;
}

export async function deactivate(): Promise<void> {
  await running?.stop();
}
