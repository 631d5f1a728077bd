import { expect, it } from "vitest";
import { Restarts } from "../../src/daemon/restarts.js";

const MINUTE = 60_000;

it("waits longer each time and gives up in the end", () => {
  const restarts = new Restarts();
  const waits = [0, 1, 2, 3, 4, 5, 6].map((second) => restarts.next(second * 1_000));
  expect(waits).toEqual([0, 1_000, 2_000, 5_000, 10_000, undefined, undefined]);
});

it("forgets deaths of more than three minutes ago", () => {
  const restarts = new Restarts();
  expect([0, 1, 3, 4].map((minute) => restarts.next(minute * MINUTE))).toEqual([0, 1_000, 1_000, 1_000]);
});

it("never gives up on one that dies once a minute", () => {
  const restarts = new Restarts();
  const waits = Array.from({ length: 50 }, (_, minute) => restarts.next(minute * MINUTE));
  expect(waits).not.toContain(undefined);
});

it("begins anew when the user asks", () => {
  const restarts = new Restarts();
  for (let death = 0; death < 9; death++) {
    restarts.next(death);
  }
  restarts.forget();
  expect(restarts.isTrying).toBe(false);
  expect(restarts.next(10)).toBe(0);
  expect(restarts.isTrying).toBe(true);
});
