/** API keys, in VS Code's secret storage and nowhere else. */

import * as vscode from "vscode";

const NAMES = "keys.providers";
const TOKEN = "token";

export class Keys {
  constructor(
    private readonly secrets: vscode.SecretStorage,
    private readonly memory: vscode.Memento,
  ) {}

  /** Keys by provider. */
  async all(): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const provider of this.providers()) {
      const key = await this.secrets.get(slot(provider));
      if (key) {
        found.set(provider, key);
      }
    }
    return found;
  }

  /** Who has a key. The storage cannot be listed in every VS Code, so names are kept beside it. */
  providers(): string[] {
    return this.memory.get<string[]>(NAMES, []);
  }

  async set(provider: string, key: string): Promise<void> {
    await this.secrets.store(slot(provider), key);
    await this.memory.update(NAMES, [...new Set([...this.providers(), provider])]);
  }

  async remove(provider: string): Promise<void> {
    await this.secrets.delete(slot(provider));
    await this.memory.update(
      NAMES,
      this.providers().filter((name) => name !== provider),
    );
  }

  /** The token of a daemon on another machine. */
  async token(): Promise<string | undefined> {
    return this.secrets.get(TOKEN);
  }

  async setToken(token: string): Promise<void> {
    await this.secrets.store(TOKEN, token);
  }
}

function slot(provider: string): string {
  return `key.${provider}`;
}
