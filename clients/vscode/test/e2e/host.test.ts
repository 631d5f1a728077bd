/** The suites of `test/host`, inside a real VS Code. Each of their tests is one here. */

import { rmSync } from "node:fs";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runInside, type Told } from "./inside.js";
import { PYTHON, folderWith, llama, openBrowser, temporary, tinyModel, workbench, type Llama } from "./world.js";

let browser: Browser;
let server: Llama;
const models = temporary("models");

beforeAll(async () => {
  browser = await openBrowser();
  server = await llama(tinyModel(models));
});
afterAll(async () => {
  await browser.close();
  server.stop();
  rmSync(models, { recursive: true });
});

/** All tests ran, and none failed. */
function expectPassed(told: Told[]): void {
  for (const { title, failure } of told) {
    console.log(`${failure ? "✗" : "✓"} ${title}`);
  }
  expect(told.length).toBeGreaterThan(0);
  expect(told.filter(({ failure }) => failure !== "")).toEqual([]);
}

describe("inside VS Code", () => {
  it("in a trusted folder", { timeout: 400_000 }, async () => {
    const bench = await workbench({
      machine: { "ollm.daemon.path": PYTHON },
      settings: {
        "ollm.provider": "here",
        "ollm.model": "tiny",
        "ollm.providers": { here: { kind: "openai-compatible", backend: "llamacpp", baseUrl: server.url } },
        "ollm.completion.maxTokens": 8,
      },
    });
    const folder = folderWith({ "main.py": "print('hello')\n" });
    try {
      expectPassed(await runInside(browser, bench, folder, "trusted", { OLLM_LLAMA: server.url }));
    } finally {
      bench.stop();
      rmSync(folder, { recursive: true });
    }
  });
});
