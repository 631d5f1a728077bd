/** What the tests have around them: folders that go away, real programs, and a Python with the daemon. */

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll } from "vitest";
import type { Ran, Run } from "../../src/daemon/locate.js";

export const CLIENT = join(import.meta.dirname, "../..");
export const ROOT = join(CLIENT, "../..");
/** A Python that has the daemon. */
export const PYTHON = process.env["OLLM_PYTHON"] ?? join(ROOT, ".venv/bin/python");

/** A setting as the manifest declares it. */
export interface Property {
  type?: string | string[];
  minimum?: number;
  maximum?: number;
  default?: unknown;
}

interface Manifest {
  contributes: { configuration: { properties: Record<string, Property> }[] };
}

export const MANIFEST = JSON.parse(readFileSync(join(CLIENT, "package.json"), "utf8")) as Manifest;

const folders: string[] = [];

afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true, maxRetries: 5 })));

/** A folder that is removed after the tests of the file. */
export function temporary(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "ollm-unit-")));
  folders.push(folder);
  return folder;
}

/** Write a file and the folders that it is in. */
export function write(path: string, text: string, mode = 0o644): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { mode });
  return path;
}

/** A program of the shell. */
export function program(path: string, ...lines: string[]): string {
  return write(path, ["#!/bin/sh", ...lines, ""].join("\n"), 0o755);
}

/** Runs real programs in a folder, and finds them in `path` if that is given. */
export function runner(cwd: string, path?: string): Run {
  const env = path === undefined ? process.env : { ...process.env, PATH: path };
  return (command, args) =>
    new Promise<Ran>((resolve) => {
      execFile(command, args, { cwd, env }, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : undefined;
        resolve({ code, stdout, stderr });
      });
    });
}

/** A port at which nobody listens. */
export async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** What a promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    (value) => {
      throw new Error(`it did not fail: ${JSON.stringify(value)}`);
    },
    (error: unknown) => error,
  );
}
