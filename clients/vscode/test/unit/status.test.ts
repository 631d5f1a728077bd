import { describe, expect, it } from "vitest";
import { face, type Face, type Facts } from "../../src/status.js";

/** All is well, and nothing is going on. */
const CALM: Facts = {
  daemon: { kind: "running", version: "1.2.3" },
  provider: "local",
  model: "qwen",
  unavailable: undefined,
  working: undefined,
  completing: 0,
  paused: false,
  language: "python",
  offered: true,
};

/** Everything at once; each case takes away what is more pressing. */
const ALL: Facts = { ...CALM, working: "Loading 40 %", unavailable: "Nobody listens.", paused: true, offered: false, completing: 2 };

describe("the status bar", () => {
  it.each<[string, Facts, Face]>([
    ["is calm", CALM, { icon: "sparkle", text: "local · qwen", detail: "Ready.", severity: "plain" }],
    ["knows no model yet", { ...CALM, model: undefined }, { icon: "sparkle", text: "local", detail: "Ready.", severity: "plain" }],
    ["knows nothing yet", { ...CALM, provider: undefined, model: undefined }, { icon: "sparkle", text: "ollm", detail: "Ready.", severity: "plain" }],
    ["says that it completes", { ...CALM, completing: 1 }, { icon: "loading~spin", text: "local · qwen", detail: "Completing…", severity: "plain" }],
    [
      "puts a language that is off before a completion",
      { ...ALL, working: undefined, unavailable: undefined, paused: false },
      { icon: "circle-slash", text: "local · qwen", detail: "Text at the cursor is off for python.", severity: "plain" },
    ],
    ["says nothing of a language without an editor", { ...CALM, offered: false, language: undefined }, { icon: "sparkle", text: "local · qwen", detail: "Ready.", severity: "plain" }],
    [
      "puts a pause before the language",
      { ...ALL, working: undefined, unavailable: undefined },
      { icon: "debug-pause", text: "local · qwen", detail: "Text at the cursor is paused.", severity: "plain" },
    ],
    [
      "puts a failing server before a pause",
      { ...ALL, working: undefined },
      { icon: "warning", text: "local · qwen", detail: "Nobody listens.", severity: "warning" },
    ],
    ["puts long work before a failing server", ALL, { icon: "loading~spin", text: "Loading 40 %", detail: "local · qwen", severity: "plain" }],
    [
      "puts a daemon that starts before everything",
      { ...ALL, daemon: { kind: "starting" } },
      { icon: "loading~spin", text: "ollm", detail: "The daemon is starting.", severity: "plain" },
    ],
    [
      "puts a daemon that is stopped before everything",
      { ...ALL, daemon: { kind: "stopped" } },
      { icon: "circle-slash", text: "ollm", detail: "The daemon is stopped.", severity: "plain" },
    ],
    [
      "puts a daemon that failed before everything",
      { ...ALL, daemon: { kind: "failed", reason: "There is none." } },
      { icon: "error", text: "ollm", detail: "There is none.", severity: "error" },
    ],
  ])("%s", (_what, facts, expected) => {
    expect(face(facts)).toEqual(expected);
  });
});
