/** What a user does, in a real VS Code, with the packaged extension. Pictures of it are in the README. */

import { createServer, type Server } from "node:http";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest";
import { ScriptedOllama, chat, record, stream } from "../host/ollama.js";
import { Window } from "./window.js";
import { PYTHON, QUIET, folderWith, llama, openBrowser, smallModel, until, workbench, type Llama, type Workbench } from "./world.js";

const CODE = `"""Numbers that are sums of the two before."""


def fibonacci(n):
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


def lucas(n):
`;
const OFFER = "    if n == 0:\n        return 2\n    if n == 1:\n        return 1\n    return lucas(n - 1) + lucas(n - 2)";

const leftOut = inject("leftOut") !== "";

let browser: Browser;
let bench: Workbench;
let model: Llama;
let writer: Server;
let ollama: ScriptedOllama;
let folder: string;
let window: Window;

beforeAll(async () => {
  if (leftOut) {
    return;
  }
  browser = await openBrowser();
  model = await llama(smallModel());
  ollama = await new ScriptedOllama().start();
  writer = createServer((request, response) => {
    if (request.url !== "/infill") {
      response.writeHead(404).end("{}");
      return;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`data: ${JSON.stringify({ content: OFFER.slice(4), stop: false })}\n\n`);
    response.end(`data: ${JSON.stringify({ content: "", stop: true })}\n\n`);
  });
  await new Promise<void>((resolve) => writer.listen(0, "127.0.0.1", resolve));
  bench = await workbench({ machine: { "ollm.daemon.path": PYTHON } });
});
afterAll(async () => {
  if (leftOut) {
    return;
  }
  await browser.close();
  bench.stop();
  model.stop();
  ollama.stop();
  writer.close();
});
afterEach(async ({ task }) => {
  if (task.result?.state === "fail") {
    await window.picture(`failed-${task.name.replaceAll(/\W+/g, "-")}`);
  }
  await window.close();
  rmSync(dirname(folder), { recursive: true });
});

/** A window with these settings of the user and a folder of its own. */
async function open(settings: Record<string, unknown>, files: Record<string, string> = { "series.py": CODE }): Promise<void> {
  writeFileSync(join(bench.home, "user/User/settings.json"), JSON.stringify({ ...QUIET, ...settings }));
  folder = folderWith(files);
  window = await Window.open(browser, bench, folder);
  await window.bar.locator(".codicon-sparkle").waitFor();
}

function llamaAt(baseUrl: string, name = "llamacpp"): Record<string, unknown> {
  return {
    "ollm.provider": name,
    "ollm.model": "SmolLM2-135M",
    "ollm.providers": { [name]: { kind: "openai-compatible", backend: "llamacpp", baseUrl } },
  };
}

function ollamaAt(baseUrl: string): Record<string, unknown> {
  return { "ollm.provider": "local", "ollm.model": "talker:1b", "ollm.providers": { local: { baseUrl } } };
}

describe.skipIf(leftOut)("a user", () => {
  it("starts with nothing and ends with an answer", { timeout: 300_000 }, async () => {
    const bare = await workbench();
    try {
      const began = Date.now();
      folder = folderWith({ "series.py": CODE });
      window = await Window.open(browser, bare, folder);
      await window.run("Welcome: Open Walkthrough");
      await window.row("Set Up Local Models").click();
      await window.button("Start").click();
      const missing = window.notifications.filter({ hasText: "ollm-daemon is not installed" }).first();
      await missing.locator(".monaco-button", { hasText: "Install" }).click();
      await until(async () => /local/.test((await window.bar.textContent()) ?? ""), "the daemon runs", 120_000);
      await window.page.locator(".getting-started-step", { hasText: "Choose a server" }).click();
      await window.button("Look for Servers").click();
      await window.row("Try a small model").click();
      const answers = window.notifications.filter({ hasText: /SmolLM2.* answers: first word after \d+ ms/ });
      await answers.waitFor({ timeout: 180_000 });
      console.log(`first run: ${Math.round((Date.now() - began) / 1000)} s from an empty VS Code to a first word`);
      await answers.locator(".monaco-button", { hasText: "Ask It Something" }).click();
      const answer = window.page.locator(".interactive-session .interactive-response .rendered-markdown");
      await until(async () => /sea|ocean|water/i.test((await answer.last().textContent()) ?? ""), "an answer", 120_000);
      const done = window.page.locator(".getting-started-step .codicon-getting-started-step-checked");
      await until(async () => (await done.count()) === 3, "three of four steps of the walkthrough are done");
      await window.picture("first-run");
    } finally {
      bare.stop();
    }
  });

  it("names a server on another machine, and learns that it answers", async () => {
    ollama.answers["/api/chat"] = chat({ content: "Hello " }, { content: "there." });
    await open({});
    await window.run("ollm: Set Up");
    await window.row("A server on another machine").click();
    await window.answer(ollama.url);
    await window.row("Ollama").click();
    await window.notifications.filter({ hasText: /talker:1b answers: first word after \d+ ms/ }).waitFor();
    await until(async () => /^local/.test((await window.bar.textContent())?.trim() ?? ""), "it is in use");
    expect(ollama.asked.map(({ path }) => path)).toContain("/api/chat");
  });

  it("types, sees what is offered and takes it", async () => {
    const { port } = writer.address() as AddressInfo;
    await open(llamaAt(`http://127.0.0.1:${port}`));
    await window.openFile("series.py");
    await window.page.keyboard.press("Control+End");
    await window.page.keyboard.type("    ");
    await window.ghost.first().waitFor();
    await window.picture("completion");
    await window.page.keyboard.press("Tab");
    await window.page.keyboard.press("Control+S");
    await until(() => readFileSync(join(folder, "series.py"), "utf8") === `${CODE}${OFFER}`, "the offer is in the file");
  });

  it("asks in VS Code's own chat", async () => {
    await open({ ...llamaAt(model.url), "ollm.options.temperature": 0 });
    await window.openFile("series.py");
    await window.run("ollm: Ask About Selection");
    await window.page.locator(".chat-editor-container .view-line", { hasText: "@ollm" }).waitFor();
    await window.page.locator(".chat-editor-container.focused, .chat-input-container.focused, .interactive-input-part .focused").first().waitFor();
    await window.page.keyboard.type("Write one sentence about the sea.");
    await window.page.keyboard.press("Enter");
    const answer = window.page.locator(".interactive-session .interactive-response .rendered-markdown");
    await until(async () => ((await answer.last().textContent()) ?? "").split(" ").length > 5, "an answer of some words");
    await window.page.locator(".interactive-session .interactive-response.chat-response-loading").waitFor({ state: "detached" });
    await window.picture("chat");
    expect(await answer.last().textContent()).toMatch(/sea|ocean|water/i);
  });

  it("asks an agent, which brings its tools, with nothing signed in", async () => {
    ollama.answers["/api/chat"] = chat({ content: "All " }, { content: "is well." });
    ollama.loaded = [{ name: "talker:1b", context_length: 32768 }];
    ollama.asked.length = 0;
    await open(ollamaAt(ollama.url));
    // VS Code's own agent is off until its models were looked at once, or somebody signed in.
    await window.run("Chat: Manage Language Models");
    await window.page.locator(".models-management-editor, .monaco-table", { hasText: "talker:1b" }).first().waitFor();
    await window.page.keyboard.press("Escape");
    await window.run("Chat: Open Chat");
    await window.page.locator(".chat-input-toolbars .action-label", { hasText: "talker:1b" }).waitFor();
    await window.page.locator(".interactive-session", { hasText: "Set BYOK utility models" }).waitFor();
    const field = window.page.locator(".interactive-session .chat-editor-container");
    await field.click();
    await window.page.keyboard.type("How are things?");
    await window.page.keyboard.press("Enter");
    const answer = window.page.locator(".interactive-session .interactive-response .rendered-markdown");
    await until(async () => ((await answer.last().textContent()) ?? "").includes("All is well."), "an answer");
    await window.picture("agent");
    const asked = ollama.last("/api/chat");
    console.log(`an agent sends ${(asked["tools"] as unknown[]).length} tools`);
    expect((asked["messages"] as { role: string }[])[0]?.role).toBe("system");
  });

  it("has a selection edited, looks at the difference and accepts it", async () => {
    ollama.answers["/api/chat"] = chat(
      { content: "```python\ndef fibonacci(n):\n    previous, current = 0, 1\n" },
      { content: "    for _ in range(n):\n        previous, current = current, previous + current\n" },
      { content: "    return previous\n```" },
    );
    await open(ollamaAt(ollama.url));
    await window.openFile("series.py");
    await window.page.keyboard.press("Control+Home");
    for (let line = 0; line < 3; line++) {
      await window.page.keyboard.press("ArrowDown");
    }
    for (let line = 0; line < 3; line++) {
      await window.page.keyboard.press("Shift+ArrowDown");
    }
    await window.page.keyboard.press("Shift+End");
    await window.run("ollm: Edit Selection");
    await window.answer("Make it a loop");
    await window.page.locator(".diff-editor .line-insert, .monaco-diff-editor .line-insert").first().waitFor();
    await window.picture("edit");
    await window.page.locator(".editor-actions .action-label[aria-label^='Accept Edit']").click();
    await window.page.keyboard.press("Control+S");
    await until(() => readFileSync(join(folder, "series.py"), "utf8").includes("    return previous\n\n\ndef lucas"), "the edit is in the file");
  });

  it("looks at models, pulls one and stops that", async () => {
    ollama.models = ["qwen2.5-coder:1.5b", "llama3.2:3b", "nomic-embed-text:latest"];
    ollama.answers["/api/pull"] = (_body, response) => {
      stream(response);
      let completed = 0;
      const timer = setInterval(() => {
        completed = Math.min(completed + 9_000_000, 600_000_000);
        record(response, { status: "pulling 4b1e", digest: "sha256:4b1e", total: 986_000_000, completed });
      }, 30);
      response.on("close", () => clearInterval(timer));
    };
    ollama.left.length = 0;
    await open({ ...ollamaAt(ollama.url), "ollm.model": "qwen2.5-coder:1.5b" });
    await window.page.locator(".activitybar .action-label[aria-label^='Local Models']").click();
    const rows = window.page.locator("[id='workbench.view.extension.ollm'] .monaco-list-row");
    await rows.filter({ hasText: "llama3.2:3b" }).waitFor();
    await window.run("ollm: Pull Model");
    await window.answer("qwen2.5-coder:7b");
    await window.notifications.filter({ hasText: /Pulling qwen2.5-coder:7b.*\d+ (MB|GB|%)/ }).waitFor();
    await until(async () => /\d+ %/.test((await window.bar.textContent()) ?? ""), "the bar tells how far it is");
    await window.picture("models");
    await window.notifications.locator(".monaco-button", { hasText: "Cancel" }).click();
    await until(() => ollama.left.includes("/api/pull"), "Ollama's socket is closed");
    await until(async () => !/%/.test((await window.bar.textContent()) ?? ""), "the bar is as before");
  });

  it("is asked before a folder sends prompts elsewhere", async () => {
    const elsewhere = await new ScriptedOllama().start();
    const files = {
      "series.py": CODE,
      ".vscode/settings.json": JSON.stringify({ "ollm.providers": { local: { baseUrl: elsewhere.url } } }),
    };
    try {
      ollama.asked.length = 0;
      await open(ollamaAt(ollama.url), files);
      const question = window.notifications.filter({ hasText: `This workspace wants to send prompts to ${elsewhere.url}` });
      await question.locator(".monaco-button", { hasText: "Ignore" }).waitFor();
      await window.picture("trust");
      await question.locator(".monaco-button", { hasText: "Ignore" }).click();
      await until(() => ollama.asked.length > 0, "the user's server is asked");
      expect(elsewhere.asked).toEqual([]);
      await window.close();

      window = await Window.open(browser, bench, folder);
      const again = window.notifications.filter({ hasText: `This workspace wants to send prompts to ${elsewhere.url}` });
      await again.locator(".monaco-button", { hasText: "Allow" }).click();
      await until(() => elsewhere.asked.length > 0, "the folder's server is asked");
    } finally {
      elsewhere.stop();
    }
  });

  it("reads what is wrong when the server is down", async () => {
    await open(llamaAt("http://127.0.0.1:9"));
    await window.openFile("series.py");
    await window.page.keyboard.press("Control+End");
    await window.page.keyboard.type("    ");
    await window.bar.locator(".codicon-warning").waitFor();
    const told = window.notifications.filter({ hasText: /Cannot connect to llama\.cpp at http:\/\/127\.0\.0\.1:9.*Is the server/ });
    await told.waitFor();
    await window.picture("down");
    await told.locator(".monaco-button", { hasText: "Doctor" }).click();
    await window.page.locator(".tab", { hasText: "doctor.md" }).waitFor();
    const document = window.page.frameLocator("iframe.webview.ready").frameLocator("iframe#active-frame");
    await document.locator("h2", { hasText: "llamacpp" }).waitFor();
    await window.picture("doctor");
  });
});
