/** A window without a folder. */

import { strict as assert } from "node:assert";
import * as vscode from "vscode";
import { daemons, extension, newDocument, pidOf, runMocha, until } from "./runner.js";

export function run(): Promise<void> {
  return runMocha(() => {
    it("has text at the cursor and models too", async () => {
      assert.equal(vscode.workspace.workspaceFolders, undefined);
      const api = await extension();
      const typed = "total = numbers.";
      const editor = await newDocument(typed);
      await until(async () => {
        await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
        await vscode.commands.executeCommand("editor.action.inlineSuggest.commit");
        return editor.document.getText() !== typed;
      }, "an offer is taken");
      await until(async () => (await vscode.lm.selectChatModels({ vendor: "ollm" })).some(({ name }) => name === "tiny"), "the model");
      assert.deepEqual(daemons(), [await pidOf(api)]);
    });
  });
}
