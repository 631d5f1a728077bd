/** Commit messages from what is staged. */

import * as vscode from "vscode";
import { commitMessages, commitText } from "../chat/prompts.js";
import { streamText } from "../chat/stream.js";
import { Trouble } from "../errors.js";
import { excludedOf, partsOf } from "../privacy.js";
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

/** Write the message into the box, as it comes. What stood there comes back if nothing comes of it. */
export async function writeCommitMessage(wire: Wire, rootUri: vscode.Uri | undefined): Promise<void> {
  const repository = await repositoryAt(rootUri);
  const { inputBox } = repository;
  const messages = commitMessages(await diffOf(wire, repository));
  const title = vscode.l10n.t("Writing a commit message…");
  const location = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
  const before = inputBox.value;
  await vscode.window.withProgress(location, async (progress, token) => {
    const show = (text: string): void => {
      inputBox.value = commitText(text);
    };
    try {
      show((await streamText(wire, { messages }, show, progress, token)).message.content);
    } catch (error) {
      inputBox.value = before;
      throw error;
    }
  });
}

/** The staged changes of the repository in front. */
export async function stagedDiff(wire: Wire): Promise<string> {
  return diffOf(wire, await repositoryAt(undefined));
}

/** What is staged, without what files hold that the user keeps to themselves. */
async function diffOf(wire: Wire, repository: Repository): Promise<string> {
  const parts = partsOf(await repository.diff(true)).map((part) => ({
    ...part,
    uri: vscode.Uri.joinPath(repository.rootUri, part.path).toString(),
  }));
  if (parts.length === 0) {
    throw new Trouble(vscode.l10n.t("Nothing is staged."), vscode.l10n.t("Stage the changes that the commit is to hold."));
  }
  const excluded = await excludedOf(
    wire,
    parts.map(({ uri }) => uri),
  );
  return parts.map(({ path, text, uri }) => (excluded.has(uri) ? `[${path} changed]\n` : text)).join("");
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
