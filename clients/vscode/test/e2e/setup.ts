/** Before all tests: everything is installed, and the package is that of the sources. */

import { execFileSync } from "node:child_process";
import type { TestProject } from "vitest/node";
import { LeftOut, browser, codeServer, say } from "./installing.js";
import { CLIENT } from "./world.js";

declare module "vitest" {
  interface ProvidedContext {
    /** Why this machine cannot run these tests; empty where it can. */
    leftOut: string;
  }
}

export default function setup(project: TestProject): void {
  try {
    codeServer();
    browser();
    project.provide("leftOut", "");
  } catch (error) {
    if (!(error instanceof LeftOut)) {
      throw error;
    }
    say(`left out: ${error.message}`);
    project.provide("leftOut", error.message);
    return;
  }
  const quiet = { cwd: CLIENT, stdio: ["ignore", "ignore", "inherit"] as ["ignore", "ignore", "inherit"] };
  execFileSync("npm", ["run", "--silent", "package"], quiet);
  execFileSync(process.execPath, ["esbuild.mjs", "host"], quiet);
}
