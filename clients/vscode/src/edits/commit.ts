/** Commit messages from what is staged. */

import * as vscode from "vscode";
import { commitMessages, commitText } from "../chat/prompts.js";
import { streamChat } from "../chat/stream.js";
import { Trouble } from "../errors.js";
import type { Wire } from "../wire.js";

/** What is used of the API of VS Code's git extension. */
interface GitApi {
  repositories: Repository[];
}
interface Repository {
  rootUri: vscode.Uri;
  inputBox: { value: string };
  diff(staged: boolean): Promise<string>;
}

/** Write the message into the box, as it comes. */
export async function writeCommitMessage(wire: Wire, rootUri: vscode.Uri | undefined): Promise<void> {
  const repository = await repositoryAt(rootUri);
  const messages = commitMessages(await diffOf(repository));
  const title = vscode.l10n.t("Writing a commit message…");
  const location = { location: vscode.ProgressLocation.SourceControl, title, cancellable: true };
  await vscode.window.withProgress(location, async (_progress, token) => {
    let text = "";
    const result = await streamChat(
      wire,
      { messages },
      (delta) => {
        if (delta.kind === "text") {
          text += delta.text;
          repository.inputBox.value = commitText(text);
        }
      },
      token,
    );
    repository.inputBox.value = commitText(result.message.content);
  });
}

/** The staged changes of the repository in front. */
export async function stagedDiff(): Promise<string> {
  return diffOf(await repositoryAt(undefined));
}

async function diffOf(repository: Repository): Promise<string> {
  const diff = await repository.diff(true);
  if (diff.trim() === "") {
    throw new Trouble(vscode.l10n.t("Nothing is staged."), vscode.l10n.t("Stage the changes that the commit is to hold."));
  }
  return diff;
}

async function repositoryAt(rootUri: vscode.Uri | undefined): Promise<Repository> {
  const git = vscode.extensions.getExtension<{ getAPI(version: 1): GitApi }>("vscode.git");
  const repositories = git ? (await git.activate()).getAPI(1).repositories : [];
  const inFront = vscode.window.activeTextEditor?.document.uri.path ?? "";
  const repository =
    repositories.find((one) => one.rootUri.toString() === rootUri?.toString()) ??
    repositories.find((one) => inFront.startsWith(`${one.rootUri.path}/`)) ??
    repositories[0];
  if (!repository) {
    throw new Trouble(vscode.l10n.t("There is no git repository open."));
  }
  return repository;
}
