/** Keys that `when` clauses of the manifest ask for. */

import * as vscode from "vscode";

export async function setContext(key: string, value: unknown): Promise<void> {
  await vscode.commands.executeCommand("setContext", `ollm.${key}`, value);
}
