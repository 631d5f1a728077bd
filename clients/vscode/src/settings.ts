/** Settings as the daemon wants them: what the user said apart from what a workspace said. */

export interface Inspected {
  globalValue?: unknown;
  workspaceValue?: unknown;
  workspaceFolderValue?: unknown;
}

export interface Layers {
  userSettings: Record<string, unknown>;
  workspaceSettings: Record<string, unknown>;
}

/** Settings of the extension itself, which the daemon does not know. */
const OWN = ["daemon.", "chat.", "trace."];

/** The daemon's settings among those of the manifest, without `ollm.`. */
export function settingKeys(manifest: unknown): string[] {
  const { contributes } = manifest as {
    contributes: { configuration: { properties: Record<string, unknown> }[] };
  };
  return contributes.configuration
    .flatMap((section) => Object.keys(section.properties))
    .map((key) => key.replace(/^ollm\./, ""))
    .filter((key) => !OWN.some((own) => key.startsWith(own)));
}

/**
 * What is set, nested as in a configuration file. Empty texts and `null` are VS Code's way of not setting
 * something. Keys of the secret storage go to the providers they were given for.
 */
export function toLayers(
  keys: readonly string[],
  inspect: (key: string) => Inspected | undefined,
  secrets: ReadonlyMap<string, string>,
): Layers {
  const layers: Layers = { userSettings: {}, workspaceSettings: {} };
  for (const key of keys) {
    const said = inspect(key);
    put(layers.userSettings, key, said?.globalValue);
    put(layers.workspaceSettings, key, said?.workspaceFolderValue ?? said?.workspaceValue);
  }
  for (const [provider, apiKey] of secrets) {
    const providers = (layers.userSettings["providers"] ?? {}) as Record<string, object>;
    layers.userSettings["providers"] = { ...providers, [provider]: { ...providers[provider], apiKey } };
  }
  return layers;
}

function put(layer: Record<string, unknown>, key: string, value: unknown): void {
  if (value === undefined || value === null || value === "") {
    return;
  }
  const names = key.split(".");
  const last = names.pop() ?? key;
  let place = layer;
  for (const name of names) {
    place = (place[name] ??= {}) as Record<string, unknown>;
  }
  place[last] = value;
}
