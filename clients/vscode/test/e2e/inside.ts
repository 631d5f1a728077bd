/** Runs mocha inside VS Code's extension host and brings its report out. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { CLIENT, newPage, type Workbench } from "./world.js";

export interface Told {
  title: string;
  /** Empty when it passed. */
  failure: string;
}

interface Test {
  fullTitle: string;
  err: { stack?: string; message?: string };
}
interface Report {
  tests: Test[];
  /** A hook that failed is here alone. */
  failures: Test[];
}

const LIMIT_MS = 300_000;

/** @param suite The bundle in `dist/host` whose `run` is called. */
export async function runInside(
  browser: Browser,
  { url, port, home }: Workbench,
  folder: string | undefined,
  suite: string,
  environment: Record<string, string>,
): Promise<Told[]> {
  const report = join(home, `${suite}.json`);
  const page = await newPage(browser);
  const authority = `vscode-remote://127.0.0.1:${port}`;
  const payload = [
    ["extensionDevelopmentPath", `${authority}${join(CLIENT, "test/host/harness")}`],
    ["extensionTestsPath", `${authority}${join(CLIENT, "dist/host", suite)}`],
    ["extensionEnvironment", JSON.stringify({ ...environment, OLLM_REPORT: report })],
    ["skipWelcome", "true"],
  ];
  const said: string[] = [];
  const hear = (_type: string, args: unknown[]): void => {
    const line = args.join(" ");
    said.push(line);
    if (line.includes("memory: ")) {
      console.log(line);
    }
  };
  try {
    await page.exposeFunction("codeAutomationLog", hear);
    const ended = new Promise<number>((resolve, reject) => {
      void page.exposeFunction("codeAutomationExit", resolve);
      setTimeout(() => reject(new Error(`the suite ${suite} did not end:\n${said.join("\n")}`)), LIMIT_MS).unref();
    });
    const where = folder === undefined ? "ew=true&" : `folder=${folder}&`;
    await page.goto(`${url}/?${where}payload=${encodeURIComponent(JSON.stringify(payload))}`);
    await ended;
  } finally {
    await page.context().close();
  }
  try {
    const { tests, failures } = JSON.parse(readFileSync(report, "utf8")) as Report;
    const titles = new Set(tests.map((test) => test.fullTitle));
    return [...tests, ...failures.filter((test) => !titles.has(test.fullTitle))].map(({ fullTitle, err }) => ({ title: fullTitle, failure: err.stack ?? err.message ?? "" }));
  } catch {
    throw new Error(`the suite ${suite} left no report:\n${said.join("\n")}`);
  }
}
