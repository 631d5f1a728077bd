/** What the extension does in a folder that is trusted, with llama.cpp's real server and a scripted Ollama. */

import { execFileSync } from "node:child_process";
import { strict as assert } from "node:assert";
import { truncateSync, writeFileSync, chmodSync } from "node:fs";
import { join } from "node:path";
import * as vscode from "vscode";
import { streamChat } from "../../src/chat/stream.js";
import type { Api } from "../../src/extension.js";
import { ScriptedOllama, chat, endlessChat, record, stream } from "./ollama.js";
import { daemons, effective, extension, newDocument, pidOf, runMocha, set, until } from "./runner.js";

/** In VS Code, but not in the types of the oldest one that the extension runs in. */
const { LanguageModelDataPart: DataPart } = vscode as unknown as {
  LanguageModelDataPart: { image(data: Uint8Array, mimeType: string): unknown };
};
const LLAMA = process.env["OLLM_LLAMA"] ?? "";
const { Workspace } = vscode.ConfigurationTarget;

export function run(): Promise<void> {
  return runMocha(define);
}

function define(): void {
  let api: Api;
  let ollama: ScriptedOllama;
  const folder = (): string => vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? "";

  before(async () => {
    api = await extension();
    ollama = await new ScriptedOllama().start();
    await set("providers", { ...providers(), local: { baseUrl: ollama.url } });
    await until(async () => (await effective(api, "providers.local.baseUrl"))?.value === ollama.url, "the address of Ollama");
  });
  beforeEach(async () => {
    await set("provider", "here");
    await set("model", "tiny");
    await until(() => api.daemon.state.kind === "running", "the daemon runs");
    await until(() => api.bar.facts.provider === "here", "llama.cpp is in use");
    ollama.answers["/api/chat"] = chat({ content: "Hello" });
    ollama.left.length = 0;
  });
  afterEach(async () => {
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
    await vscode.commands.executeCommand("workbench.action.closeAllEditors");
  });
  after(() => ollama.stop());

  /** Text that is offered and taken. */
  async function complete(typed: string): Promise<string> {
    const editor = await newDocument(typed);
    const { offered, accepted } = (await api.daemon.request("ollm/status", {})).completion;
    await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
    await until(async () => (await api.daemon.request("ollm/status", {})).completion.offered > offered, "an offer");
    await until(async () => {
      await vscode.commands.executeCommand("editor.action.inlineSuggest.commit");
      return editor.document.getText() !== typed;
    }, "the offer is in the document");
    await until(async () => (await api.daemon.request("ollm/status", {})).completion.accepted > accepted, "the daemon counts it");
    return editor.document.getText();
  }

  async function talker(): Promise<vscode.LanguageModelChat> {
    return until(async () => {
      const models = await vscode.lm.selectChatModels({ vendor: "ollm" });
      return models.find((model) => model.id === "local/talker:1b");
    }, "Ollama's model in VS Code");
  }

  describe("the daemon", () => {
    it("is started, and the status bar names provider and model", () => {
      assert.equal(api.daemon.state.kind, "running");
      assert.equal(api.bar.facts.provider, "here");
      assert.equal(api.bar.facts.model, "tiny");
    });

    it("hears of settings, the user's apart from the workspace's", async () => {
      await set("options.temperature", 0.25);
      await until(async () => (await effective(api, "options.temperature"))?.value === 0.25, "the user's setting");
      assert.equal((await effective(api, "options.temperature"))?.layer, "editor user settings");
      await set("options.temperature", 0.5, Workspace);
      await until(async () => (await effective(api, "options.temperature"))?.value === 0.5, "the workspace's setting");
      assert.equal((await effective(api, "options.temperature"))?.layer, "editor workspace settings");
      await set("options.temperature", undefined, Workspace);
      await set("options.temperature", undefined);
      await until(async () => !(await effective(api, "options.temperature")), "neither");
    });

    it("is started again when it dies, and the next completion works", async () => {
      const before = await pidOf(api);
      process.kill(before, "SIGKILL");
      await until(() => pidOf(api).then((pid) => pid !== before, () => false), "another daemon");
      assert.notEqual(await complete("value = alpha."), "value = alpha.");
    });

    it("that hangs is ended by a restart", async () => {
      const before = await pidOf(api);
      process.kill(before, "SIGSTOP");
      await api.daemon.restart();
      assert.notEqual(await pidOf(api), before);
      await until(() => !isAlive(before), "the one that hung is gone");
    });

    it("is restarted once, however often that is asked for", async () => {
      const starts: string[] = [];
      const watching = api.daemon.onDidChangeState((state) => starts.push(state.kind));
      await Promise.all([api.daemon.restart(), api.daemon.restart(), api.daemon.restart()]);
      watching.dispose();
      assert.deepEqual(starts, ["stopped", "starting", "running"]);
    });

    it("gets a key from the secret storage, and settings.json does not hold it", async () => {
      await api.keys.set("here", "sk-from-vscode");
      await api.daemon.restart();
      assert.deepEqual((await effective(api, "providers.here.apiKey"))?.layer, "editor user settings");
      assert.ok(!JSON.stringify(vscode.workspace.getConfiguration("ollm").inspect("providers")).includes("sk-from"));
      await api.keys.remove("here");
      await api.daemon.restart();
    });

    it("that dies in mid-answer is told of in a sentence, and started again", async () => {
      ollama.answers["/api/chat"] = endlessChat();
      const before = await pidOf(api);
      const params = { messages: [{ role: "user" as const, content: "Count" }], provider: "local", model: "talker:1b" };
      const asking = streamChat(api.daemon, params, () => process.kill(before, "SIGKILL"));
      await assert.rejects(asking, /^Trouble: The daemon ended before it answered\.$/);
      await until(() => pidOf(api).then((pid) => pid !== before, () => false), "another daemon");
      await until(() => daemons().length === 1, "one daemon");
    });

    it("of another version is refused with the command that mends it", async () => {
      const old = join(folder(), "ollm-daemon");
      writeFileSync(old, OLD_DAEMON);
      chmodSync(old, 0o755);
      const path = vscode.workspace.getConfiguration("ollm.daemon").get<string>("path");
      await set("daemon.path", old);
      const failed = await until(() => api.daemon.state.kind === "failed" && api.daemon.state, "the old one is refused");
      assert.match(failed.reason, /speaks version 0\.9 .* too old.*pip install --upgrade ollm-daemon/);
      await set("daemon.path", join(folder(), "nothing"));
      await until(() => api.daemon.state.kind === "failed" && api.daemon.state.reason.includes("cannot be run"), "none");
      await set("daemon.path", path);
      await until(() => api.daemon.state.kind === "running", "the new one runs");
    });
  });

  describe("the window", () => {
    it("has one daemon, and grows by little", async () => {
      const status = await api.daemon.request("ollm/status", {});
      assert.deepEqual(daemons(), [status.pid]);
      const chatOften = async (rounds: number): Promise<number> => {
        for (let round = 0; round < rounds; round++) {
          for await (const piece of (await (await talker()).sendRequest([vscode.LanguageModelChatMessage.User("Hi")])).text) {
            assert.ok(piece);
          }
        }
        return process.memoryUsage().rss / 1e6;
      };
      const before = await chatOften(10);
      const grown = (await chatOften(50)) - before;
      const daemon = Math.round((status.memoryBytes ?? 0) / 1e6);
      console.log(`memory: daemon ${daemon} MB, extension host ${Math.round(before)} MB and ${grown.toFixed(1)} MB more after 50 chats`);
      assert.ok(grown < 40, `${grown} MB`);
    });
  });

  describe("text at the cursor", () => {
    it("is inserted into the document as llama.cpp wrote it", async () => {
      const typed = "total = numbers.";
      const body = { input_prefix: typed, input_suffix: "", n_predict: 8, temperature: 0 };
      const asked = await fetch(`${LLAMA}/infill`, { method: "POST", body: JSON.stringify(body) });
      const { content } = (await asked.json()) as { content: string };
      assert.equal(await complete(typed), typed + (content.split("\n")[0]?.trimEnd() ?? ""));
    });

    it("is taken word by word or refused, and the daemon hears of both", async () => {
      const counts = async (): Promise<{ offered: number; accepted: number; rejected: number }> =>
        (await api.daemon.request("ollm/status", {})).completion;
      const before = await counts();
      const typed = "count = letters.";
      const editor = await newDocument(typed);
      await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
      await until(async () => (await counts()).offered > before.offered, "an offer");
      await until(async () => {
        await vscode.commands.executeCommand("editor.action.inlineSuggest.acceptNextWord");
        return (await counts()).accepted > before.accepted;
      }, "a word of it is taken");
      assert.ok(editor.document.getText().startsWith(typed));
      await until(async () => {
        await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
        await editor.edit((edit) => edit.insert(editor.selection.active, "\u00a7"));
        return (await counts()).rejected > before.rejected;
      }, "another key refuses what is left");
    });

    it("is not asked for while it is paused, nor in a language that is off", async () => {
      const requests = async (): Promise<number> => (await api.daemon.request("ollm/status", {})).completion.requests;
      await vscode.commands.executeCommand("ollm.togglePause");
      const before = await requests();
      await newDocument("a = 1 + ");
      await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
      assert.equal(await requests(), before);
      await vscode.commands.executeCommand("ollm.togglePause");
      await set("completion.languages", { python: false });
      await until(() => !api.bar.facts.offered, "the bar says that it is off");
      await set("completion.languages", undefined);
      await until(() => api.bar.facts.offered, "the bar says that it is on");
    });

    it("that cannot be had is told of once, with what to do", async () => {
      await set("providers", { ...providers(), local: { baseUrl: ollama.url }, here: { ...providers().here, baseUrl: "http://127.0.0.1:9" } });
      await until(async () => (await effective(api, "providers.here.baseUrl"))?.value === "http://127.0.0.1:9", "a server that is down");
      await newDocument("b = ");
      await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
      const told = await until(() => api.bar.facts.unavailable, "the bar tells of it");
      assert.match(told, /127\.0\.0\.1:9/);
      await set("providers", { ...providers(), local: { baseUrl: ollama.url } });
      await until(async () => (await effective(api, "providers.here.baseUrl"))?.value === LLAMA, "the server is back");
    });

    it("does not suffer from files of 45 and 100 MB", async () => {
      const before = await pidOf(api);
      const large = join(folder(), "large.csv");
      writeFileSync(large, '"a",\n'.repeat(9_000_000)); // more than a frame may hold once it is JSON
      await vscode.window.showTextDocument(vscode.Uri.file(large));
      const huge = join(folder(), "huge.txt");
      writeFileSync(huge, "a line\n");
      truncateSync(huge, 100 * 1024 * 1024);
      await vscode.commands.executeCommand("vscode.open", vscode.Uri.file(huge));
      assert.notEqual(await complete("after = huge."), "after = huge.");
      assert.equal(await pidOf(api), before);
    });
  });

  describe("models in VS Code", () => {
    it("are those of every provider that answers, with their true limits", async () => {
      const talkers = await talker();
      assert.equal(talkers.maxInputTokens, 3072); // of the 4,096 that Ollama gives when nobody says more
      const [tiny] = (await vscode.lm.selectChatModels({ vendor: "ollm" })).filter((model) => model.id.startsWith("here/"));
      assert.equal(tiny?.maxInputTokens, 1536); // of the 2,048 of the model
    });

    it("stream text and thoughts", async () => {
      ollama.answers["/api/chat"] = chat({ thinking: "Hm." }, { content: "Good " }, { content: "day" });
      const model = await talker();
      const answer = await model.sendRequest([vscode.LanguageModelChatMessage.User("Hi")]);
      const parts: string[] = [];
      for await (const part of answer.stream as AsyncIterable<{ constructor: { name: string }; value: string }>) {
        parts.push(part.value);
      }
      assert.equal(parts.join(""), "Hm.Good day");
      let text = "";
      for await (const piece of (await model.sendRequest([vscode.LanguageModelChatMessage.User("Hi")])).text) {
        text += piece;
      }
      assert.equal(text, "Good day");
    });

    it("are cancelled up to the server's socket", async () => {
      ollama.answers["/api/chat"] = endlessChat();
      const stop = new vscode.CancellationTokenSource();
      const answer = await (await talker()).sendRequest([vscode.LanguageModelChatMessage.User("Count")], {}, stop.token);
      const reading = (async () => {
        for await (const piece of answer.text) {
          assert.ok(piece);
          stop.cancel();
        }
      })();
      await until(() => ollama.left.includes("/api/chat"), "Ollama's socket is closed");
      await reading.catch(() => undefined);
    });

    it("call tools, read their results and see images", async () => {
      ollama.answers["/api/chat"] = chat({ tool_calls: [{ function: { name: "weather", arguments: { city: "Paris" } } }] });
      const tools = [{ name: "weather", description: "Tells it", inputSchema: { type: "object", properties: { city: { type: "string" } } } }];
      const image = DataPart.image(Buffer.from(PNG, "base64"), "image/png");
      const question = vscode.LanguageModelChatMessage.User([new vscode.LanguageModelTextPart("Weather?"), image as never]);
      const model = await talker();
      const answer = await model.sendRequest([question], { tools });
      const calls: vscode.LanguageModelToolCallPart[] = [];
      for await (const part of answer.stream) {
        if (part instanceof vscode.LanguageModelToolCallPart) {
          calls.push(part);
        }
      }
      assert.deepEqual(calls.map(({ name, input }) => [name, input]), [["weather", { city: "Paris" }]]);
      const [asked] = ollama.last("/api/chat")["messages"] as [{ images: string[] }];
      assert.deepEqual(asked.images, [PNG]);

      ollama.answers["/api/chat"] = chat({ content: "Sunny" });
      const [call] = calls;
      assert.ok(call);
      const told = [
        question,
        vscode.LanguageModelChatMessage.Assistant([call]),
        vscode.LanguageModelChatMessage.User([new vscode.LanguageModelToolResultPart(call.callId, [new vscode.LanguageModelTextPart("sun")])]),
      ];
      let text = "";
      for await (const piece of (await model.sendRequest(told, { tools })).text) {
        text += piece;
      }
      assert.equal(text, "Sunny");
      const messages = ollama.last("/api/chat")["messages"] as { role: string; content: string }[];
      assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant", "tool"]);
    });

    it("with too small a window for all tools say so in one sentence", async () => {
      const tools = Array.from({ length: 40 }, (_, index) => ({
        name: `tool_${index}`,
        description: "What it does, at length. ".repeat(50),
        inputSchema: { type: "object" },
      }));
      ollama.loaded = [{ name: "talker:1b", context_length: 2048 }];
      await vscode.commands.executeCommand("ollm.models.refresh");
      const known = (): Promise<boolean> => talker().then((model) => model.maxInputTokens === 1536);
      await until(known, "the window that it was loaded with");
      const asking = (async () => {
        const answer = await (await talker()).sendRequest([vscode.LanguageModelChatMessage.User("Hi")], { tools });
        for await (const piece of answer.text) {
          assert.fail(piece);
        }
      })();
      await assert.rejects(asking, /40 tools take about [\d,]+ tokens, and the window of talker:1b has 2,048/);
      ollama.loaded = [];
      await vscode.commands.executeCommand("ollm.models.refresh");
    });

    it("of a server that dies in mid-answer say so", async () => {
      ollama.answers["/api/chat"] = (body, response) => {
        stream(response);
        record(response, { model: body["model"], message: { role: "assistant", content: "Half an " }, done: false });
        setTimeout(() => response.destroy(), 50);
      };
      let text = "";
      const asking = (async () => {
        for await (const piece of (await (await talker()).sendRequest([vscode.LanguageModelChatMessage.User("Hi")])).text) {
          text += piece;
        }
      })();
      await assert.rejects(asking, /before it was complete|ended|broke|closed/);
      assert.equal(text, "Half an ");
    });

    it("that are gone are told of with what to do", async () => {
      ollama.answers["/api/chat"] = (_body, response) => {
        response.writeHead(404, { "Content-Type": "application/json" }).end('{"error":"model \\"talker:1b\\" not found"}');
      };
      const model = await talker();
      const asking = (async () => {
        for await (const piece of (await model.sendRequest([vscode.LanguageModelChatMessage.User("Hi")])).text) {
          assert.fail(piece);
        }
      })();
      await assert.rejects(asking, /talker:1b/);
    });

    it("count tokens", async () => {
      const counted = await (await talker()).countTokens("one two three four five six seven eight");
      assert.ok(counted > 4 && counted < 40, String(counted));
    });
  });

  describe("edits", () => {
    it("are shown as they come, and taken or not", async () => {
      await set("provider", "local");
      await set("model", "talker:1b");
      await until(() => api.bar.facts.provider === "local", "Ollama is in use");
      ollama.answers["/api/chat"] = chat({ content: "```python\n" }, { content: "y = 2\n```" });
      const editor = await newDocument("x = 1\nz = 3\n");
      editor.selection = new vscode.Selection(0, 0, 0, 5);
      await api.edits.edit("rename it");
      const preview = vscode.workspace.textDocuments.find(({ uri }) => uri.scheme === "ollm-edit");
      await until(() => preview?.getText() === "y = 2\nz = 3\n", "the preview");
      await vscode.commands.executeCommand("ollm.rejectEdit");
      assert.equal(editor.document.getText(), "x = 1\nz = 3\n");

      const again = await vscode.window.showTextDocument(editor.document);
      again.selection = new vscode.Selection(0, 0, 0, 5);
      await api.edits.edit("rename it");
      await vscode.commands.executeCommand("ollm.acceptEdit");
      assert.equal(editor.document.getText(), "y = 2\nz = 3\n");
    });

    it("of a commit message go into git's box", async () => {
      await set("provider", "local");
      await set("model", "talker:1b");
      await until(() => api.bar.facts.provider === "local", "Ollama is in use");
      const git = (...args: string[]): void => void execFileSync("git", args, { cwd: folder() });
      writeFileSync(join(folder(), "a.txt"), "one\n");
      writeFileSync(join(folder(), ".env"), "TOKEN=secret\n");
      git("init", "-q");
      git("add", "a.txt", ".env");
      interface Box { rootUri: vscode.Uri; inputBox: { value: string } }
      const found = vscode.extensions.getExtension<{ getAPI(version: 1): { repositories: Box[]; openRepository(uri: vscode.Uri): Promise<Box> } }>("vscode.git");
      const repository = await (await found?.activate())?.getAPI(1).openRepository(vscode.Uri.file(folder()));
      assert.ok(repository);
      ollama.answers["/api/chat"] = chat({ content: "Add the " }, { content: "first file" });
      await vscode.commands.executeCommand("ollm.commitMessage", { rootUri: repository.rootUri });
      assert.equal(repository.inputBox.value, "Add the first file");
      const sent = JSON.stringify(ollama.last("/api/chat")["messages"]);
      assert.match(sent, /\+one/);
      assert.match(sent, /\[\.env changed\]/);
      assert.doesNotMatch(sent, /secret/);
    });
  });

  describe("models", () => {
    it("are pulled with progress", async () => {
      ollama.answers["/api/pull"] = (_body, response) => {
        stream(response);
        record(response, { status: "pulling manifest" });
        let completed = 0;
        const timer = setInterval(() => {
          completed += 25;
          record(response, { status: "pulling 0000", digest: "sha256:0000", total: 100, completed });
          if (completed === 100) {
            clearInterval(timer);
            record(response, { status: "success" });
            response.end();
          }
        }, 150);
      };
      const seen: string[] = [];
      const looking = setInterval(() => seen.push(api.bar.facts.working ?? ""), 20);
      await api.actions.pull(localProvider(), "talker:3b");
      clearInterval(looking);
      assert.ok(seen.some((text) => /^Pulling talker:3b \d+ %$/.test(text)), JSON.stringify([...new Set(seen)]));
      assert.equal(api.bar.facts.working, undefined);
    });

    it("stop being pulled when that is cancelled", async () => {
      ollama.answers["/api/pull"] = (_body, response) => {
        stream(response);
        const timer = setInterval(() => record(response, { status: "pulling 0000", digest: "sha256:0000", total: 100, completed: 1 }), 20);
        response.on("close", () => clearInterval(timer));
      };
      ollama.asked.length = 0;
      const stop = new vscode.CancellationTokenSource();
      const pulling = api.daemon.request("ollm/models/pull", { provider: "local", model: "talker:7b" }, stop.token);
      await until(() => ollama.asked.some(({ path }) => path === "/api/pull"), "the pull begins");
      stop.cancel();
      await assert.rejects(pulling);
      await until(() => ollama.left.includes("/api/pull"), "Ollama's socket is closed");
    });

    it("of a provider that nobody has are told of as a problem", async () => {
      await set("provider", "nobody", Workspace);
      await until(async () => (await effective(api, "provider"))?.value === "nobody", "the workspace chooses it");
      await assert.rejects(api.daemon.request("ollm/models/list", {}), /nobody/);
      await set("provider", undefined, Workspace);
    });
  });

  describe("diagnostics", () => {
    it("hold settings, and no keys, prompts or addresses", async () => {
      await api.keys.set("here", "sk-from-vscode");
      await vscode.commands.executeCommand("ollm.copyDiagnostics");
      const copied = await vscode.env.clipboard.readText();
      assert.match(copied, /^extension: 0\.1\.0\nvscode: \d/);
      assert.match(copied, /provider = here \(editor user settings\)/);
      assert.doesNotMatch(copied, /sk-|127\.0\.0\.1|\/tmp/);
      await api.keys.remove("here");
    });
  });

  function providers(): { here: Record<string, string> } {
    return { here: { kind: "openai-compatible", backend: "llamacpp", baseUrl: LLAMA } };
  }

  function localProvider(): never {
    return { kind: "provider", provider: { name: "local", capabilities: { pullModels: true } } } as never;
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** Speaks as a daemon of long ago. */
const OLD_DAEMON = `#!/usr/bin/env python3
import json, sys
if "--version" in sys.argv:
    print("ollm-daemon 0.0.1")
    sys.exit()
length = 0
while (line := sys.stdin.buffer.readline()).strip():
    length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
message = json.loads(sys.stdin.buffer.read(length))
result = {"capabilities": {"experimental": {"ollm": {"protocolVersion": "0.9", "methods": []}}}}
body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
sys.stdout.buffer.write(b"Content-Length: %d\\r\\n\\r\\n%b" % (len(body), body))
sys.stdout.buffer.flush()
sys.stdin.buffer.read()
`;
