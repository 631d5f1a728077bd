/** VS Code's language client around the streams of one daemon. */

import type { LogOutputChannel } from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  RevealOutputChannelOn,
  WorkDoneProgress,
  type Middleware,
} from "vscode-languageclient/node";
import type { Client, Progress, Start } from "./daemon.js";

const SELECTOR = ["file", "untitled", "vscode-vfs", "vscode-notebook-cell"].map((scheme) => ({ scheme }));

export function clientFactory(middleware: Middleware, log: LogOutputChannel): (start: Start) => Client {
  return ({ attached, options }) => {
    const streams = { reader: attached.reader, writer: attached.writer, detached: true };
    return new DaemonClient("ollm", "ollm", () => Promise.resolve(streams), {
      documentSelector: SELECTOR,
      initializationOptions: options,
      middleware,
      outputChannel: log,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => ({ action: CloseAction.DoNotRestart, handled: true }),
      },
    });
  };
}

class DaemonClient extends LanguageClient implements Client {
  onWorkDone(token: string, listener: (progress: Progress) => void): { dispose(): void } {
    return this.onProgress(WorkDoneProgress.type, token, listener);
  }

  /** The library shows failures of its own beside ours, with codes and stacks; they belong into the log. */
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}
