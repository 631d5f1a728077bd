/** Before all tests: everything is installed, and the package is that of the sources. */

import { execFileSync } from "node:child_process";
import { browser, codeServer } from "./installing.js";
import { CLIENT } from "./world.js";

export default function setup(): void {
  codeServer();
  browser();
  const quiet = { cwd: CLIENT, stdio: ["ignore", "ignore", "inherit"] as ["ignore", "ignore", "inherit"] };
  execFileSync("npm", ["run", "--silent", "package"], quiet);
  execFileSync(process.execPath, ["esbuild.mjs", "host"], quiet);
}
