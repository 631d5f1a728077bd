/** In a folder that is not trusted nothing in it decides where prompts go or what is run. */

import { strict as assert } from "node:assert";
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as vscode from "vscode";
import { effective, extension, runMocha } from "./runner.js";

export function run(): Promise<void> {
  return runMocha(() => {
    const folder = (): string => vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? "";

    it("the user's server answers, not the folder's", async () => {
      assert.equal(vscode.workspace.isTrusted, false);
      const api = await extension();
      assert.equal(api.daemon.state.kind, "running");
      assert.deepEqual(await effective(api, "provider"), { value: "local", layer: "editor user settings" });
      assert.equal((await effective(api, "providers.local.baseUrl"))?.value, process.env["OLLM_GOOD"]);
      const { message } = await api.daemon.request("ollm/chat", { messages: [{ role: "user", content: "Hi" }] });
      assert.equal(message.content, "from the user's server");
    });

    it("what the folder asks for cannot be approved", async () => {
      const api = await extension();
      const { pending } = await api.daemon.request("ollm/trust/get", {});
      for (const { digest } of pending) {
        assert.deepEqual(await api.daemon.request("ollm/trust/approve", { digest }), { approved: false });
      }
      assert.equal((await effective(api, "providers.local.baseUrl"))?.value, process.env["OLLM_GOOD"]);
    });

    it("its Python and its commands are not run", () => {
      assert.ok(existsSync(join(folder(), ".venv/bin/python")));
      assert.ok(!existsSync(join(folder(), "ran")));
    });
  });
}
