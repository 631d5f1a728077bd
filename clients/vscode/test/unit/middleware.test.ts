import type { CancellationToken, InlineCompletionContext, InlineCompletionItem, Position, TextDocument } from "vscode";
import { CancellationTokenSource } from "vscode-jsonrpc/node";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { OfferWatch } from "../../src/completion/feedback.js";
import { ACCEPTED, completionMiddleware } from "../../src/completion/middleware.js";

type Answer = InlineCompletionItem[] | { items: InlineCompletionItem[] } | null | undefined;

/** A document of one line, whose positions are offsets. */
const DOCUMENT = { uri: "file:///a.py", offsetAt: ({ character }: Position) => character } as unknown as TextDocument;
const AT = { line: 0, character: 10 } as unknown as Position;

function item(insertText: string, start?: number): InlineCompletionItem {
  const range = start === undefined ? undefined : { start: { character: start }, end: AT };
  return { insertText, range } as unknown as InlineCompletionItem;
}

describe("text at the cursor", () => {
  /** Documents that something may be offered in. */
  let open: TextDocument[];
  let steps: number[];
  let told: object[];
  let watch: OfferWatch;
  let offered: ReturnType<typeof vi.fn<() => void>>;

  beforeEach(() => {
    open = [DOCUMENT];
    steps = [];
    told = [];
    watch = new OfferWatch((feedback) => told.push(feedback));
    offered = vi.fn<() => void>();
  });

  const around = { offersIn: (document: TextDocument) => open.includes(document), count: (step: 1 | -1) => steps.push(step), offered: () => offered() };

  async function ask(next: () => Promise<Answer>, token: CancellationToken = new CancellationTokenSource().token): Promise<unknown> {
    const { provideInlineCompletionItems: provide } = completionMiddleware(watch, around);
    return provide?.(DOCUMENT, AT, {} as InlineCompletionContext, token, next);
  }

  it.each<[string, Answer]>([
    ["in a list", [item("hello")]],
    ["in an object", { items: [item("hello")] }],
    ["with a place that begins at the cursor", [item("hello", 10)]],
    ["with a place that begins before the cursor", [item("prehello", 7)]],
  ])("%s is what stands behind the cursor", async (_what, answer) => {
    expect(await ask(() => Promise.resolve(answer))).toBe(answer);
    watch.changed("file:///a.py", { offset: 10, removed: 0, text: "hel" });
    expect(told).toEqual([{ event: "shown" }, { event: "partiallyAccepted", characters: 3 }]);
    expect(offered).toHaveBeenCalledOnce();
  });

  it.each<[string, Answer]>([
    ["an empty list", []],
    ["an empty object", { items: [] }],
    ["null", null],
    ["undefined", undefined],
  ])("is not told of where the answer is %s", async (_what, answer) => {
    expect(await ask(() => Promise.resolve(answer))).toBe(answer);
    expect(told).toEqual([]);
    expect(offered).not.toHaveBeenCalled();
  });

  it("is not told of when nobody waits for it any more", async () => {
    const stop = new CancellationTokenSource();
    await ask(() => {
      stop.cancel();
      return Promise.resolve([item("hello")]);
    }, stop.token);
    expect(told).toEqual([]);
  });

  it("is not asked for where nothing may be offered", async () => {
    open = [];
    const next = vi.fn<() => Promise<Answer>>();
    expect(await ask(next)).toEqual([]);
    expect(next).not.toHaveBeenCalled();
    expect(steps).toEqual([]);
  });

  it("counts as under way until it is there, or fails", async () => {
    await ask(() => {
      expect(steps).toEqual([1]);
      return Promise.resolve([]);
    });
    await expect(ask(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(steps).toEqual([1, -1, 1, -1]);
  });

  it.each<[string, object[]]>([
    [ACCEPTED, []],
    ["other.command", [{ event: "rejected" }]],
  ])("that was shown is, behind the command %s, told of as %j", (command, expected) => {
    const next = vi.fn();
    watch.shown({ uri: "file:///a.py", offset: 10, text: "hello" });
    void completionMiddleware(watch, around).executeCommand?.(command, [5], next);
    watch.left();
    expect(told).toEqual([{ event: "shown" }, ...expected]);
    expect(next).toHaveBeenCalledWith(command, [5]);
  });
});
