import { describe, expect, it } from "vitest";
import { Trouble, dataOf, sentence, wasCancelled } from "../../src/errors.js";
import { ERROR_CODES } from "../../src/protocol.gen.js";

/** As the client's library rejects with what the daemon answered. */
function answered(message: string, code: number, data?: unknown): Error {
  return Object.assign(new Error(message), { code, ...(data !== undefined && { data }) });
}

describe("sentence", () => {
  it.each([
    ["of a trouble has its hint", new Trouble("It is off.", "Turn it on."), "It is off. Turn it on."],
    ["of a trouble without a hint is its message", new Trouble("It is off."), "It is off."],
    ["ends the cause before the hint", new Trouble("It is off", "Turn it on."), "It is off. Turn it on."],
    ["leaves other ends as they are", new Trouble("Is it off?", "Look."), "Is it off? Look."],
    ["has no space around the cause", new Trouble(" It is off. \n", "Look."), "It is off. Look."],
    [
      "of the daemon's error has the hint of its data",
      answered("Nobody listens.", ERROR_CODES.requestFailed, { kind: "unreachable", hint: "Start it." }),
      "Nobody listens. Start it.",
    ],
    ["of an error without a hint is its message", answered("No.", ERROR_CODES.requestFailed, { kind: "auth" }), "No."],
    ["passes over data of another kind", answered("Wrong.", ERROR_CODES.invalidParams, [{ hint: "x" }]), "Wrong."],
    ["of an empty hint is the message", new Trouble("It is off.", ""), "It is off."],
    ["of what is no error is its text", "just text", "just text"],
    ["of nothing is nothing", undefined, "undefined"],
  ])("%s", (_what, error, expected) => {
    expect(sentence(error)).toBe(expected);
  });
});

describe("wasCancelled", () => {
  it.each([
    ["knows the daemon's answer", answered("Cancelled", ERROR_CODES.requestCancelled), true],
    ["knows VS Code's own error", Object.assign(new Error("Canceled"), { name: "Canceled" }), true],
    ["tells other answers apart", answered("Failed", ERROR_CODES.requestFailed), false],
    ["tells other errors apart", new Error("Canceled"), false],
    ["takes what is no error", { code: ERROR_CODES.requestCancelled }, false],
  ])("%s", (_what, error, expected) => {
    expect(wasCancelled(error)).toBe(expected);
  });
});

describe("dataOf", () => {
  it.each([
    ["gives the data of a provider's failure", answered("x", 1, { kind: "auth", status: 401 }), { kind: "auth", status: 401 }],
    ["gives nothing of wrong params", answered("x", 1, [{ key: "model" }]), undefined],
    ["gives nothing of data that is null", answered("x", 1, null), undefined],
    ["gives nothing of an error without data", new Error("x"), undefined],
    ["gives nothing of what is no error", { data: { kind: "auth" } }, undefined],
  ])("%s", (_what, error, expected) => {
    expect(dataOf(error)).toEqual(expected);
  });
});
