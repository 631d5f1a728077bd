import type { Position, TextDocument, TextDocumentChangeEvent } from "vscode";
import { beforeEach, describe, expect, it } from "vitest";
import { Documents, LONGEST } from "../../src/completion/documents.js";

/** A document that holds a text and tells its length only as VS Code's do. */
function written(path: string, text: string): TextDocument {
  const lines = text.split("\n");
  const before = (line: number): number => lines.slice(0, line).reduce((sum, { length }) => sum + length + 1, 0);
  return {
    uri: { toString: () => `file://${path}` },
    lineCount: lines.length,
    lineAt: (line: number) => ({ range: { end: { line, character: lines[line]!.length } } }),
    offsetAt: ({ line, character }: Position) => before(line) + character,
  } as unknown as TextDocument;
}

describe("a document", () => {
  const lines = "0123456789\n".repeat(LONGEST / 10).slice(0, LONGEST);
  const [long, short] = [written("/a.json", `${lines}!`), written("/a.json", lines)];
  let documents: Documents;
  let told: string[];

  beforeEach(() => {
    documents = new Documents();
    told = [];
  });

  async function tell(what: string): Promise<void> {
    await Promise.resolve(); // whoever does not wait for this is found out
    told.push(what);
  }
  const open = async (document: TextDocument): Promise<void> => documents.middleware.didOpen!(document, () => tell("open"));
  const close = async (document: TextDocument): Promise<void> => documents.middleware.didClose!(document, () => tell("close"));
  const change = async (document: TextDocument): Promise<void> =>
    documents.middleware.didChange!({ document } as TextDocumentChangeEvent, () => tell("change"));

  it("that may be so long is told of", async () => {
    await open(short);
    expect(documents.has(short)).toBe(true);
    await change(short);
    await close(short);
    expect(told).toEqual(["open", "change", "close"]);
  });

  it("that is too long is told of to nobody", async () => {
    await open(long);
    expect(documents.has(long)).toBe(false);
    await change(long);
    await close(long);
    expect(told).toEqual([]);
  });

  it("that was too long is told of when it is opened anew and shorter", async () => {
    await open(long);
    await close(long);
    await open(short);
    expect(documents.has(short)).toBe(true);
    await change(short);
    await close(short);
    expect(told).toEqual(["open", "change", "close"]);
  });

  it("that was too long and became shorter is unknown until it is opened anew", async () => {
    await open(long);
    await change(short);
    expect(documents.has(short)).toBe(false);
    await close(short);
    expect(told).toEqual([]);
    await open(short);
    expect(told).toEqual(["open"]);
  });

  it("that is told of to another daemon is told of if it is short by then", async () => {
    await open(long);
    await open(short); // a client tells a new daemon of what is open
    expect(documents.has(short)).toBe(true);
    await change(short);
    await close(short);
    expect(told).toEqual(["open", "change", "close"]);
  });

  it("that became too long while it was open is told of to another daemon no more", async () => {
    await open(short);
    await open(long);
    await change(long);
    await close(long);
    expect(told).toEqual(["open"]);
  });

  it("that is too long keeps no other one from being told of", async () => {
    const other = written("/b.json", "{}");
    await open(long);
    await open(other);
    await change(other);
    await close(other);
    expect(documents.has(other)).toBe(true);
    expect(documents.has(long)).toBe(false);
    expect(told).toEqual(["open", "change", "close"]);
  });
});
