import { beforeEach, describe, expect, it } from "vitest";
import { OfferWatch, type Change } from "../../src/completion/feedback.js";

const URI = "file:///a.py";
const SHOWN = { event: "shown" };
const REJECTED = { event: "rejected" };

describe("an offer", () => {
  let told: object[];
  let watch: OfferWatch;

  beforeEach(() => {
    told = [];
    watch = new OfferWatch((feedback) => told.push(feedback));
    watch.shown({ uri: URI, offset: 10, text: "hello world" });
  });

  it.each<[string, Change[], object[]]>([
    ["is told of when it is shown", [], []],
    ["that is taken as a whole is told of by its command alone", [{ offset: 10, removed: 0, text: "hello world" }], []],
    ["that replaces what stands behind is taken as a whole", [{ offset: 10, removed: 2, text: "hello world" }], []],
    ["is taken word by word", [{ offset: 10, removed: 0, text: "hello" }], [{ event: "partiallyAccepted", characters: 5 }]],
    ["that is typed along is neither taken nor rejected", [typed(10, "h"), typed(11, "e")], []],
    ["that is typed along and then taken is no rejected one", [typed(10, "h"), { offset: 11, removed: 0, text: "ello world" }], []],
    ["that VS Code writes again from its beginning is taken as a whole", [typed(10, "h"), { offset: 10, removed: 1, text: "hello world" }], []],
    ["that is written with the word before it is taken as a whole", [{ offset: 7, removed: 3, text: "prehello world" }], []],
    [
      "that is taken in two parts is told of twice",
      [{ offset: 10, removed: 0, text: "hello" }, { offset: 15, removed: 0, text: " w" }],
      [{ event: "partiallyAccepted", characters: 5 }, { event: "partiallyAccepted", characters: 2 }],
    ],
    ["that is typed to its end is not rejected by what follows", Array.from("hello world!", (text, index) => typed(10 + index, text)), []],
    ["is rejected by other text", [typed(10, "x")], [REJECTED]],
    ["is rejected by other text once it is typed along", [typed(10, "h"), typed(11, "x")], [REJECTED]],
    ["is rejected by what is written elsewhere", [typed(3, "h")], [REJECTED]],
    ["is rejected by a deletion", [{ offset: 9, removed: 1, text: "" }], [REJECTED]],
    ["is rejected by its own text in front of it", [{ offset: 7, removed: 0, text: "prehello world" }], [REJECTED]],
    ["is rejected by another word before it", [{ offset: 7, removed: 3, text: "abc" }], [REJECTED]],
    ["is rejected by its beginning in the place of other text", [{ offset: 10, removed: 1, text: "he" }], [REJECTED]],
    ["is rejected once", [typed(10, "x"), typed(11, "y")], [REJECTED]],
  ])("%s", (_what, changes, expected) => {
    for (const change of changes) {
      watch.changed(URI, change);
    }
    expect(told).toEqual([SHOWN, ...expected]);
  });

  it("is not touched by another document", () => {
    watch.changed("file:///b.py", typed(10, "x"));
    expect(told).toEqual([SHOWN]);
  });

  it("is rejected when the cursor leaves it, once", () => {
    watch.left();
    watch.left();
    expect(told).toEqual([SHOWN, REJECTED]);
  });

  it("that was accepted is not rejected by what follows", () => {
    watch.accepted();
    watch.changed(URI, typed(21, "x"));
    watch.left();
    expect(told).toEqual([SHOWN]);
  });

  it("of which the rest is offered again is no second one", () => {
    watch.changed(URI, typed(10, "h"));
    watch.shown({ uri: URI, offset: 11, text: "ello world" });
    expect(told).toEqual([SHOWN]);
  });

  it("of other text is a second one", () => {
    watch.shown({ uri: URI, offset: 10, text: "hello there" });
    expect(told).toEqual([SHOWN, SHOWN]);
  });

  it("at another place is a second one", () => {
    watch.shown({ uri: URI, offset: 50, text: "hello world" });
    watch.shown({ uri: "file:///b.py", offset: 50, text: "hello world" });
    expect(told).toEqual([SHOWN, SHOWN, SHOWN]);
  });

  it("that comes again after it was rejected is a second one", () => {
    watch.left();
    watch.shown({ uri: URI, offset: 10, text: "hello world" });
    watch.left();
    expect(told).toEqual([SHOWN, REJECTED, SHOWN, REJECTED]);
  });

  it("that comes again after it was accepted and undone is a second one", () => {
    watch.accepted();
    watch.shown({ uri: URI, offset: 10, text: "hello world" });
    expect(told).toEqual([SHOWN, SHOWN]);
  });
});

function typed(offset: number, text: string): Change {
  return { offset, removed: 0, text };
}
