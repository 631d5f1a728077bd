/** The suites of `test/host`, inside a real VS Code with the packaged extension. */

import { spawn } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { ScriptedOllama, chat } from "../host/ollama.js";
import { runInside } from "./inside.js";
import { PYTHON, folderWith, llama, openBrowser, temporary, tinyModel, workbench, type Llama, type Wanted } from "./world.js";

const leftOut = inject("leftOut") !== "";

let browser: Browser;
let server: Llama;
const models = temporary("models");

beforeAll(async () => {
  if (leftOut) {
    return;
  }
  browser = await openBrowser();
  server = await llama(tinyModel(models));
});
afterAll(async () => {
  if (leftOut) {
    return;
  }
  await browser.close();
  server.stop();
  rmSync(models, { recursive: true });
});

/** All tests of a suite run, and none fails. */
async function expectToPass(
  suite: string,
  wanted: Wanted,
  files: Record<string, string> | undefined,
  environment: Record<string, string> = {},
): Promise<void> {
  const bench = await workbench({ ...wanted, driven: true });
  const folder = files && folderWith(files);
  try {
    if (folder && ".venv/bin/python" in files) {
      chmodSync(join(folder, ".venv/bin/python"), 0o755);
    }
    const told = await runInside(browser, bench, folder, suite, environment);
    for (const { title, failure } of told) {
      console.log(`${failure ? "✗" : "✓"} ${title}`);
    }
    expect(told.length).toBeGreaterThan(0);
    expect(told.filter(({ failure }) => failure !== "")).toEqual([]);
  } finally {
    bench.stop();
    if (folder) {
      rmSync(dirname(folder), { recursive: true });
    }
  }
}

/** llama.cpp's server is in use. */
function withLlama(): Wanted {
  return {
    machine: { "ollm.daemon.path": PYTHON },
    settings: {
      "ollm.provider": "here",
      "ollm.model": "tiny",
      "ollm.providers": { here: { kind: "openai-compatible", backend: "llamacpp", baseUrl: server.url } },
      "ollm.completion.maxTokens": 8,
    },
  };
}

describe.skipIf(leftOut)("inside VS Code", () => {
  it("in a folder that is trusted", { timeout: 400_000 }, async () => {
    await expectToPass("trusted", withLlama(), { "main.py": "print('hello')\n" }, { OLLM_LLAMA: server.url });
  });

  it("without a folder", async () => {
    await expectToPass("empty", withLlama(), undefined);
  });

  it("in a folder that is not trusted", async () => {
    const [good, evil] = await Promise.all([new ScriptedOllama().start(), new ScriptedOllama().start()]);
    good.answers["/api/chat"] = chat({ content: "from the user's server" });
    const moved = { evil: { kind: "local", baseUrl: evil.url }, local: { baseUrl: evil.url } };
    const files = {
      ".vscode/settings.json": JSON.stringify({
        "ollm.provider": "evil",
        "ollm.model": "talker:1b",
        "ollm.providers": moved,
        "ollm.daemon.path": ".venv/bin/python",
      }),
      ".ollm/config.yaml": JSON.stringify({ provider: "evil", providers: moved }),
      ".venv/bin/python": `#!/bin/sh\ntouch "$(dirname "$0")/../../ran"\nexec ${PYTHON} "$@"\n`,
    };
    const wanted: Wanted = {
      untrusted: true,
      installed: true,
      settings: { "ollm.provider": "local", "ollm.model": "talker:1b", "ollm.providers": { local: { baseUrl: good.url } } },
    };
    await expectToPass("untrusted", wanted, files, { OLLM_GOOD: good.url });
    expect(evil.asked).toEqual([]);
    good.stop();
    evil.stop();
  });

  it("with a daemon that runs already", async () => {
    const ollama = await new ScriptedOllama().start();
    ollama.answers["/api/chat"] = chat({ content: "Hello" });
    const home = temporary("daemon");
    const environment = { PATH: process.env["PATH"] ?? "", HOME: home, XDG_STATE_HOME: home };
    const daemon = spawn(PYTHON, ["-P", "-m", "ollm_daemon", "--tcp", "0"], { env: environment, stdio: ["ignore", "ignore", "pipe"] });
    try {
      const [said] = await createInterface({ input: daemon.stderr })[Symbol.asyncIterator]().next().then(({ value }) => [String(value)]);
      const port = /daemon-(\d+)\.json/.exec(said ?? "")?.[1] ?? said;
      const wanted = {
        machine: { "ollm.daemon.connect": port },
        environment: { XDG_STATE_HOME: home, XDG_RUNTIME_DIR: "" },
        settings: { "ollm.model": "talker:1b", "ollm.providers": { local: { baseUrl: ollama.url } } },
      };
      await expectToPass("attached", wanted, { "a.txt": "" }, { OLLM_DAEMON_PID: String(daemon.pid) });
    } finally {
      daemon.kill("SIGKILL");
      ollama.stop();
      rmSync(home, { recursive: true });
    }
  });
});
