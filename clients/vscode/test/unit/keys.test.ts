import type { Memento, SecretStorage } from "vscode";
import { beforeEach, expect, it } from "vitest";
import { Keys } from "../../src/keys.js";

let secrets: Map<string, string>;
let memory: Map<string, unknown>;
let keys: Keys;

beforeEach(() => {
  secrets = new Map();
  memory = new Map();
  const storage = {
    get: (name: string) => Promise.resolve(secrets.get(name)),
    store: (name: string, value: string) => Promise.resolve(void secrets.set(name, value)),
    delete: (name: string) => Promise.resolve(void secrets.delete(name)),
  };
  const memento = {
    get: (name: string, otherwise: unknown) => memory.get(name) ?? otherwise,
    update: (name: string, value: unknown) => Promise.resolve(void memory.set(name, value)),
  };
  keys = new Keys(storage as unknown as SecretStorage, memento as unknown as Memento);
});

it("keeps keys in the secret storage, and names alone beside it", async () => {
  await keys.set("gpu", "sk-1");
  await keys.set("other", "sk-2");
  expect(await keys.all()).toEqual(new Map([["gpu", "sk-1"], ["other", "sk-2"]]));
  expect(keys.providers()).toEqual(["gpu", "other"]);
  expect(JSON.stringify([...memory])).not.toContain("sk-");
});

it("replaces a key", async () => {
  await keys.set("gpu", "sk-1");
  await keys.set("gpu", "sk-2");
  expect(await keys.all()).toEqual(new Map([["gpu", "sk-2"]]));
  expect(keys.providers()).toEqual(["gpu"]);
});

it("removes a key from the storage", async () => {
  await keys.set("gpu", "sk-1");
  await keys.set("other", "sk-2");
  await keys.remove("gpu");
  expect(await keys.all()).toEqual(new Map([["other", "sk-2"]]));
  expect(keys.providers()).toEqual(["other"]);
  expect([...secrets.values()]).toEqual(["sk-2"]);
});

it("passes over a key that the storage has lost", async () => {
  await keys.set("gpu", "sk-1");
  secrets.clear();
  expect(await keys.all()).toEqual(new Map());
});

it("keeps a daemon's token apart from the keys, even from those of a provider of that name", async () => {
  await keys.set("token", "sk-1");
  await keys.setToken("secret");
  expect(await keys.token()).toBe("secret");
  expect(await keys.all()).toEqual(new Map([["token", "sk-1"]]));
});
