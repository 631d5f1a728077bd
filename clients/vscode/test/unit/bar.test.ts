import * as vscode from "vscode";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Bar } from "../../src/bar.js";

describe("the item in the status bar", () => {
  let bar: Bar;
  let item: vscode.StatusBarItem;

  beforeEach(() => {
    const creating = vi.spyOn(vscode.window, "createStatusBarItem");
    bar = new Bar();
    item = creating.mock.results[0]!.value as vscode.StatusBarItem;
    bar.know({ daemon: { kind: "running", version: "1.2.3" }, provider: "local", model: "qwen" });
  });
  afterEach(() => void vi.restoreAllMocks());

  it("shows what is known, to those who cannot see it too", () => {
    expect(item).toMatchObject({
      name: "ollm",
      command: "ollm.menu",
      text: "$(sparkle) local · qwen",
      tooltip: "Ready.",
      backgroundColor: undefined,
      accessibilityInformation: { label: "ollm: local · qwen, Ready.", role: "button" },
    });
  });

  it.each<[string, Parameters<Bar["know"]>[0], string | undefined]>([
    ["what is wrong", { unavailable: "Nobody listens." }, "statusBarItem.warningBackground"],
    ["what has failed", { daemon: { kind: "failed", reason: "There is none." } }, "statusBarItem.errorBackground"],
  ])("shows %s in its colour, and then no more", (_what, facts, color) => {
    const before = bar.facts;
    bar.know(facts);
    expect(item.backgroundColor).toEqual(new vscode.ThemeColor(color!));
    bar.know(before);
    expect(item.backgroundColor).toBeUndefined();
    expect(item.text).toBe("$(sparkle) local · qwen");
  });

  it("shows what takes long while it does", () => {
    bar.work("pull-1", "Pulling a");
    expect(item.text).toBe("$(loading~spin) Pulling a");
    bar.work("pull-1", "Pulling a 40 %");
    expect(item.text).toBe("$(loading~spin) Pulling a 40 %");
    bar.work("pull-1", undefined);
    expect(item.text).toBe("$(sparkle) local · qwen");
  });

  it("shows the last of several that take long, and the ones before when that is done", () => {
    const shown = (key: string, text: string | undefined): string | undefined => {
      bar.work(key, text);
      return bar.facts.working;
    };
    expect(shown("pull-1", "Pulling a")).toBe("Pulling a");
    expect(shown("chat-1", "Loading b")).toBe("Loading b");
    expect(shown("chat-2", "Loading c")).toBe("Loading c");
    expect(shown("chat-1", undefined)).toBe("Loading c");
    expect(shown("chat-2", undefined)).toBe("Pulling a");
    expect(shown("chat-3", "Loading d")).toBe("Loading d");
    expect(shown("pull-1", "Pulling a 40 %")).toBe("Pulling a 40 %");
    expect(shown("pull-1", undefined)).toBe("Loading d");
    expect(shown("chat-3", undefined)).toBeUndefined();
  });

  it("is drawn only when something that takes long says something new", () => {
    bar.work("chat-1", "Loading b");
    bar.work("chat-2", "Loading c");
    const before = bar.facts;
    bar.work("chat-1", "Loading b");
    bar.work("chat-2", "Loading c");
    bar.work("chat-3", undefined);
    expect(bar.facts).toBe(before);
  });
});
