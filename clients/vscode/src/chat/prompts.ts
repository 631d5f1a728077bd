/** What models are asked. */

import type { Message } from "../protocol.gen.js";

/** A piece of a file that a question is about. */
export interface Excerpt {
  path: string;
  language: string;
  text: string;
  /** Whether it is what the user selected, and not all there is. */
  isSelection: boolean;
}

/** Commands of `@ollm`. */
export const COMMANDS: Readonly<Record<string, string>> = {
  explain: "Explain what this code does, step by step, for somebody who has not seen it before.",
  fix: "Find what is wrong with this code. Say what it is in one sentence, then show the corrected code.",
  tests: "Write tests for this code, with the test framework its project is likely to use. Show only the tests.",
  doc: "Write the documentation comment of this code in the style of its language. Show the documented code.",
};

const SYSTEM =
  "You are a programming assistant inside a code editor. Answer briefly and precisely, in the language of the " +
  "question. Put code into fenced blocks with the name of its language.";
const EDIT =
  "You edit code. You get a file with one part marked by <selection> and </selection>, and an instruction. Answer " +
  "with the new text of that part alone, in one fenced block, keeping its indentation. No explanation.";
const COMMIT =
  "You write commit messages. Answer with the message alone: a first line of at most 72 characters in the imperative " +
  "that says what changes for whoever uses the code, and only if there is more to say, an empty line and a few short " +
  "lines. No quotes, no fences.";
/** Characters around a selection that go along with it. */
const AROUND = 6_000;
/** Characters of a diff; what is behind them is told as missing. */
export const DIFF_LIMIT = 24_000;

export function chatMessages(
  earlier: readonly Message[],
  question: string,
  command: string | undefined,
  excerpts: readonly Excerpt[],
): Message[] {
  const task = [command === undefined ? "" : (COMMANDS[command] ?? ""), question].filter(Boolean).join("\n\n");
  const content = [...excerpts.map(quoted), task].join("\n\n");
  return [{ role: "system", content: SYSTEM }, ...earlier, { role: "user", content }];
}

export function editMessages(instruction: string, file: Excerpt, before: string, behind: string): Message[] {
  const shown = `${before.slice(-AROUND)}<selection>${file.text}</selection>${behind.slice(0, AROUND)}`;
  return [
    { role: "system", content: EDIT },
    { role: "user", content: `${fenced(file.path, file.language, shown)}\n\nInstruction: ${instruction}` },
  ];
}

/** @param wish What the user wants of it, such as a language. */
export function commitMessages(diff: string, wish = ""): Message[] {
  const cut = diff.length > DIFF_LIMIT ? `${diff.slice(0, DIFF_LIMIT)}\n[${diff.length - DIFF_LIMIT} more characters]` : diff;
  return [
    { role: "system", content: COMMIT },
    { role: "user", content: [`The staged changes:\n\n${cut}`, wish].filter(Boolean).join("\n\n") },
  ];
}

/** The text an answer to an edit holds: that of its fenced block, else all of it. Works on unfinished ones. */
export function codeIn(answer: string): string {
  const opening = /^[ \t]*(`{3,}|~{3,})[^\n`]*\n/m.exec(answer);
  if (!opening) {
    const isOpening = /^\s*((`{3,}|~{3,})[^\n`]*)?$/.test(answer);
    return isOpening ? "" : withoutMarks(answer.replace(/^\n+|\s+$/g, ""));
  }
  const fence = opening[1] ?? "```";
  const body = answer.slice(opening.index + opening[0].length);
  // Markdown may hold fenced blocks of its own.
  const ends = [...body.matchAll(new RegExp(`(^|\\n)[ \\t]*${fence}[ \\t]*(?=\\n|$)`, "g"))];
  const end = /^\s*[`~]+\s*(markdown|md)\b/.test(opening[0]) ? ends.at(-1) : ends[0];
  const code = end ? body.slice(0, end.index) : body.replace(/\n?[ \t]*[`~]{1,3}$/, "");
  return withoutMarks(code);
}

function withoutMarks(code: string): string {
  return code.replace(/<\/?selection>/g, "");
}

/** As it may stand in the box of a commit: without fences and quotes around it. */
export function commitText(answer: string): string {
  const plain = answer.includes("```") ? codeIn(answer) : answer;
  return plain.trim().replace(/^(["'`])((?:(?!\1)[^])*)\1$/, "$2");
}

function quoted(excerpt: Excerpt): string {
  const what = excerpt.isSelection ? "Selected in" : "The file";
  return `${what} ${fenced(excerpt.path, excerpt.language, excerpt.text)}`;
}

/** A fence longer than any in the text. */
function fenced(path: string, language: string, text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`{3,}/g)].map((found) => found[0].length));
  const fence = "`".repeat(longest + 1);
  return `${path}:\n${fence}${language}\n${text}\n${fence}`;
}
