import { describe, expect, it } from "vitest";
import { settingKeys, toLayers, type Inspected, type Layers } from "../../src/settings.js";
import { MANIFEST } from "./world.js";

function layersOf(said: Record<string, Inspected>, secrets: Record<string, string> = {}): Layers {
  return toLayers(Object.keys(said), (key) => said[key], new Map(Object.entries(secrets)));
}

describe("settingKeys", () => {
  const keys = settingKeys(MANIFEST);

  it("names settings of the daemon without the prefix", () => {
    expect(keys).toEqual(expect.arrayContaining(["provider", "providers", "completion.enabled", "privacy.exclude"]));
    expect(keys.filter((key) => key.startsWith("ollm."))).toEqual([]);
  });

  it("leaves out what is the extension's own", () => {
    const declared = MANIFEST.contributes.configuration.flatMap(({ properties }) => Object.keys(properties));
    const left = declared.filter((key) => !keys.includes(key.replace("ollm.", "")));
    expect(left.sort()).toEqual(["ollm.chat.models", "ollm.daemon.connect", "ollm.daemon.logLevel", "ollm.daemon.path", "ollm.trace.server"]);
  });
});

describe("toLayers", () => {
  it.each<[string, Record<string, Inspected>, Partial<Layers>]>([
    ["nests dotted keys", { "completion.maxLines": { globalValue: 3 } }, { userSettings: { completion: { maxLines: 3 } } }],
    [
      "joins keys of one section",
      { "options.seed": { globalValue: 1 }, "options.topK": { globalValue: 2 } },
      { userSettings: { options: { seed: 1, topK: 2 } } },
    ],
    ["keeps the workspace's apart", { model: { globalValue: "a", workspaceValue: "b" } }, { userSettings: { model: "a" }, workspaceSettings: { model: "b" } }],
    ["prefers the folder's to the workspace's", { model: { workspaceValue: "a", workspaceFolderValue: "b" } }, { workspaceSettings: { model: "b" } }],
    ["takes the workspace's where the folder says null", { model: { workspaceValue: "a", workspaceFolderValue: null } }, { workspaceSettings: { model: "a" } }],
    ["leaves out empty texts and null", { model: { globalValue: "" }, "options.seed": { globalValue: null, workspaceValue: "" } }, {}],
    ["leaves out what is not set", { model: {}, provider: { globalValue: undefined } }, {}],
    [
      "keeps false, zero and empty lists",
      { "completion.enabled": { globalValue: false }, "options.seed": { globalValue: 0 }, "options.stop": { globalValue: [] } },
      { userSettings: { completion: { enabled: false }, options: { seed: 0, stop: [] } } },
    ],
  ])("%s", (_what, said, expected) => {
    expect(layersOf(said)).toEqual({ userSettings: {}, workspaceSettings: {}, ...expected });
  });

  it("takes a key that VS Code does not know as not set", () => {
    expect(toLayers(["model"], () => undefined, new Map())).toEqual({ userSettings: {}, workspaceSettings: {} });
  });

  it("puts secrets among the user's providers and keeps what those say", () => {
    const said = { providers: { globalValue: { gpu: { baseUrl: "http://gpu:8000" } }, workspaceValue: { gpu: { baseUrl: "x" } } } };
    expect(layersOf(said, { gpu: "sk-1", other: "sk-2" })).toEqual({
      userSettings: { providers: { gpu: { baseUrl: "http://gpu:8000", apiKey: "sk-1" }, other: { apiKey: "sk-2" } } },
      workspaceSettings: { providers: { gpu: { baseUrl: "x" } } },
    });
  });

  it("writes no secret into what VS Code holds", () => {
    const providers = Object.freeze({ gpu: Object.freeze({ baseUrl: "http://gpu:8000" }) });
    layersOf({ providers: { globalValue: providers } }, { gpu: "sk-1" });
    expect(JSON.stringify(providers)).not.toContain("sk-1");
  });
});
