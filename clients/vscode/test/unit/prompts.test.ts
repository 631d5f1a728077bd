import { describe, expect, it } from "vitest";
import { COMMANDS, DIFF_LIMIT, chatMessages, codeIn, commitMessages, commitText, editMessages } from "../../src/chat/prompts.js";
import type { Message } from "../../src/protocol.gen.js";
import { MANIFEST } from "./world.js";

const FILE = { path: "src/a.py", language: "python", text: "x = 1", isSelection: false };

/** What is asked in the end. */
function asked(messages: readonly Message[]): unknown {
  return messages.at(-1)?.content;
}

describe("a chat", () => {
  const chat = (question: string, command?: string, ...excerpts: (typeof FILE)[]): unknown =>
    asked(chatMessages([], question, command, excerpts));

  it("is the system's words, what was said before, and the question", () => {
    const earlier = [{ role: "user" as const, content: "Hi" }, { role: "assistant" as const, content: "Hello" }];
    const messages = chatMessages(earlier, "Why?", undefined, []);
    expect(messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"]);
    expect(messages.at(-1)?.content).toBe("Why?");
  });

  it.each<[string, unknown, string]>([
    ["quotes a file", chat("Why?", undefined, FILE), "The file src/a.py:\n```python\nx = 1\n```\n\nWhy?"],
    ["quotes a selection", chat("Why?", undefined, { ...FILE, isSelection: true }), "Selected in src/a.py:\n```python\nx = 1\n```\n\nWhy?"],
    ["quotes everything in order", chat("Why?", undefined, FILE, { ...FILE, path: "b.py" }), "The file src/a.py:\n```python\nx = 1\n```\n\nThe file b.py:\n```python\nx = 1\n```\n\nWhy?"],
    ["gives a command's task", chat("", "explain"), COMMANDS["explain"] ?? ""],
    ["gives a command's task and then the question", chat("In French.", "explain"), `${COMMANDS["explain"] ?? ""}\n\nIn French.`],
    ["knows only its own commands", chat("Why?", "unknown"), "Why?"],
    ["fences a text with more backticks than it has", chat("", undefined, { ...FILE, text: "````md\n```\n````" }), "The file src/a.py:\n`````python\n````md\n```\n````\n`````\n\n"],
  ])("%s", (_what, content, expected) => {
    expect(content).toBe(expected);
  });

  it("has a task for each command of the participant but the commit's", () => {
    const { chatParticipants } = (MANIFEST as unknown as { contributes: { chatParticipants: { commands: { name: string }[] }[] } }).contributes;
    const names = chatParticipants.flatMap(({ commands }) => commands.map(({ name }) => name));
    expect(Object.keys(COMMANDS).sort()).toEqual(names.filter((name) => name !== "commit").sort());
  });
});

describe("an edit", () => {
  it("marks what is to change in its file", () => {
    const [system, user] = editMessages("rename it", { ...FILE, isSelection: true }, "a = 0\n", "\nb = 2");
    expect(system?.role).toBe("system");
    expect(user?.content).toBe("src/a.py:\n```python\na = 0\n<selection>x = 1</selection>\nb = 2\n```\n\nInstruction: rename it");
  });

  it("takes along what is near, and not a whole file", () => {
    const content = asked(editMessages("do it", FILE, `far${"b".repeat(6_000)}`, `${"c".repeat(6_000)}far`));
    expect(content).not.toContain("far");
    expect(content).toContain(`${"b".repeat(6_000)}<selection>`);
    expect(content).toContain(`</selection>${"c".repeat(6_000)}`);
  });
});

describe("a commit", () => {
  it("shows the whole diff", () => {
    expect(asked(commitMessages("+one"))).toBe("The staged changes:\n\n+one");
  });

  it("says behind the diff what the user wants of it", () => {
    expect(asked(commitMessages("+one", "In French."))).toBe("The staged changes:\n\n+one\n\nIn French.");
  });

  it("says how much of a long diff is missing", () => {
    expect(asked(commitMessages("x".repeat(DIFF_LIMIT + 7)))).toBe(`The staged changes:\n\n${"x".repeat(DIFF_LIMIT)}\n[7 more characters]`);
  });
});

describe("the code in an answer", () => {
  it.each<[string, string, string]>([
    ["is that of its block", "```python\ny = 2\n```", "y = 2"],
    ["is that of its block among words", "Here it is:\n\n```python\ny = 2\n```\nI renamed it.", "y = 2"],
    ["is that of its first block", "```\na\n```\n\n```\nb\n```", "a"],
    ["keeps its indentation and its empty lines", "```\n\n    y = 2\n\n    z = 3\n```", "\n    y = 2\n\n    z = 3"],
    ["may be between tildes", "~~~\ny = 2\n~~~", "y = 2"],
    ["may hold a shorter fence", "````md\n```\ncode\n```\n````", "```\ncode\n```"],
    ["may hold blocks of its own where it is Markdown", "```markdown\n# A\n\n```js\na\n```\n\nB\n\n```\nb\n```\n\nEnd\n```\nI added b.", "# A\n\n```js\na\n```\n\nB\n\n```\nb\n```\n\nEnd"],
    ["may hold blocks of its own where it is called md", "```md\n```js\na\n```\n```", "```js\na\n```"],
    ["may hold blocks of its own between tildes", "~~~md\n~~~\na\n~~~\n~~~", "~~~\na\n~~~"],
    ["is that of its first block where its language is not quite Markdown", "```mdx\na\n```\n\n```\nb\n```", "a"],
    ["may hold backticks", "```sh\necho `date`\n```", "echo `date`"],
    ["may be in an indented block", "  ```\n  y = 2\n  ```", "  y = 2"],
    ["may be empty", "```\n```", ""],
    ["is all of an answer without a block", "\n    y = 2\n", "    y = 2"],
    ["is none of an answer that is blank", " \n ", ""],
    ["has no marks of the selection", "```\n<selection>y = 2</selection>\n```", "y = 2"],
    ["has no marks of the selection without a block", "<selection>y = 2</selection>", "y = 2"],
  ])("%s", (_what, answer, expected) => {
    expect(codeIn(answer)).toBe(expected);
  });

  it.each([
    ["", ""],
    ["```", ""],
    ["```pyth", ""],
    ["```python\n", ""],
    ["```python\ny = ", "y = "],
    ["```python\ny = 2\n", "y = 2\n"],
    ["```python\ny = 2\n`", "y = 2"],
    ["```python\ny = 2\n``", "y = 2"],
    ["```python\ny = 2\n```", "y = 2"],
    ["```python\ny = 2\n```\nDo", "y = 2"],
    ["```md\n```js\na\n```", "```js\na"],
    ["```md\n```js\na\n```\n\nB\n```", "```js\na\n```\n\nB"],
  ])("of the unfinished %j is %j", (answer, expected) => {
    expect(codeIn(answer)).toBe(expected);
  });
});

describe("the text of a commit", () => {
  it.each<[string, string, string]>([
    ["is the answer", "Add the first file\n\nIt holds one line.\n", "Add the first file\n\nIt holds one line."],
    ["has no fences", "```\nAdd the first file\n```", "Add the first file"],
    ["has no quotes around it", '"Add the first file"', "Add the first file"],
    ["has no backticks around it", "`Add the first file`", "Add the first file"],
    ["keeps quotes inside", 'Rename "a" to "b"', 'Rename "a" to "b"'],
    ["keeps a quote that is not closed", '"a" is b', '"a" is b'],
    ["may be of several lines in quotes", '"Add\n\nMore"', "Add\n\nMore"],
  ])("%s", (_what, answer, expected) => {
    expect(commitText(answer)).toBe(expected);
  });
});
