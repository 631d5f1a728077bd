/** `@ollm` in the Chat view: answers with the model of the settings, with nothing signed in. */

import * as vscode from "vscode";
import { stagedDiff } from "../edits/commit.js";
import { Trouble, sentence, wasCancelled } from "../errors.js";
import { excludedOf } from "../privacy.js";
import type { Delta, Message } from "../protocol.gen.js";
import type { Wire } from "../wire.js";
import { chatMessages, commitMessages, type Excerpt } from "./prompts.js";
import { streamChat } from "./stream.js";

export const PARTICIPANT = "ollm.chat";

/** Characters of one file that go along; a window of 4,096 tokens holds about as many. */
const FILE_LIMIT = 12_000;

export function registerParticipant(wire: Wire, answered: () => void): vscode.ChatParticipant {
  const participant = vscode.chat.createChatParticipant(PARTICIPANT, async (request, context, stream, token) => {
    try {
      const messages = await toMessages(wire, request, context, stream);
      const result = await streamChat(wire, { messages, ...chosenModel(request) }, (delta) => show(stream, delta), token);
      for (const warning of result.warnings ?? []) {
        stream.markdown(note(warning));
      }
      if (result.finishReason === "length") {
        stream.markdown(note(vscode.l10n.t("The answer was cut: it reached its limit of tokens.")));
      }
      answered();
      return { metadata: { model: result.model, provider: result.provider } };
    } catch (error) {
      return wasCancelled(error) ? {} : { errorDetails: { message: sentence(error) } };
    }
  });
  participant.iconPath = new vscode.ThemeIcon("sparkle");
  return participant;
}

/** One of our models that is chosen in the picker; any other one is not ours to use. */
function chosenModel(request: vscode.ChatRequest): { provider?: string; model?: string } {
  const { vendor, id } = request.model;
  const slash = id.indexOf("/");
  return vendor === "ollm" && slash > 0 ? { provider: id.slice(0, slash), model: id.slice(slash + 1) } : {};
}

async function toMessages(
  wire: Wire,
  request: vscode.ChatRequest,
  context: vscode.ChatContext,
  stream: vscode.ChatResponseStream,
): Promise<Message[]> {
  if (request.command === "commit") {
    return commitMessages(await stagedDiff(wire), request.prompt);
  }
  const excerpts = await excerptsOf(wire, request, stream);
  return chatMessages(context.history.flatMap(earlier), request.prompt, request.command, excerpts);
}

function earlier(turn: vscode.ChatRequestTurn | vscode.ChatResponseTurn): Message[] {
  if (turn instanceof vscode.ChatRequestTurn) {
    return turn.participant === PARTICIPANT ? [{ role: "user", content: turn.prompt || (turn.command ?? "") }] : [];
  }
  const parts = turn.response.filter((part) => part instanceof vscode.ChatResponseMarkdownPart);
  const content = parts.map((part) => part.value.value.replaceAll(NOTE, "")).join("");
  return turn.participant === PARTICIPANT && content ? [{ role: "assistant", content }] : [];
}

/** What the user attached; else the selection; for a command, else the file in front. */
async function excerptsOf(
  wire: Wire,
  request: vscode.ChatRequest,
  stream: vscode.ChatResponseStream,
): Promise<Excerpt[]> {
  const attached = await Promise.all(request.references.map(({ value }) => excerptOf(value)));
  const given = attached.filter((excerpt) => excerpt !== undefined);
  if (given.length < attached.length) {
    stream.markdown(note(vscode.l10n.t("Not everything that is attached can be read.")));
  }
  const editor = vscode.window.activeTextEditor;
  if (attached.length === 0 && editor && (request.command !== undefined || !editor.selection.isEmpty)) {
    const range = editor.selection.isEmpty ? undefined : editor.selection;
    const uri = editor.document.uri.toString();
    if (!range && (await excludedOf(wire, [uri])).has(uri)) {
      const path = vscode.workspace.asRelativePath(editor.document.uri);
      throw new Trouble(
        vscode.l10n.t("{0} is kept to yourself.", path),
        vscode.l10n.t("Select or attach what may be sent, or change ollm.privacy.exclude."),
      );
    }
    given.push(excerptIn(editor.document, range));
    stream.reference(range ? new vscode.Location(editor.document.uri, range) : editor.document.uri);
  }
  return given.map((excerpt) => limited(excerpt, stream));
}

async function excerptOf(value: unknown): Promise<Excerpt | undefined> {
  if (typeof value === "string") {
    return { path: "", language: "", text: value, isSelection: false };
  }
  const [uri, range] = value instanceof vscode.Location ? [value.uri, value.range] : [value, undefined];
  if (!(uri instanceof vscode.Uri)) {
    return undefined;
  }
  return vscode.workspace.openTextDocument(uri).then(
    (document) => excerptIn(document, range),
    () => undefined,
  );
}

function excerptIn(document: vscode.TextDocument, range: vscode.Range | undefined): Excerpt {
  const path = vscode.workspace.asRelativePath(document.uri);
  return { path, language: document.languageId, text: document.getText(range), isSelection: range !== undefined };
}

function limited(excerpt: Excerpt, stream: vscode.ChatResponseStream): Excerpt {
  if (excerpt.text.length <= FILE_LIMIT) {
    return excerpt;
  }
  stream.markdown(note(vscode.l10n.t("Only the beginning of {0} is read; select the part that matters.", excerpt.path)));
  return { ...excerpt, text: excerpt.text.slice(0, FILE_LIMIT) };
}

function show(stream: vscode.ChatResponseStream, delta: Delta): void {
  if (delta.kind === "text") {
    stream.markdown(delta.text);
  } else if (delta.kind === "status") {
    stream.progress(delta.message);
  }
}

/** What the extension says itself, told apart so that it does not come back as words of the model. */
function note(text: string): string {
  return `\n\n> \u2139\ufe0f ${text}\n\n`;
}

const NOTE = /\n\n> \u2139\ufe0f .*\n\n/g;
