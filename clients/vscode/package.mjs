/** `npm run package`: the daemon's wheel, the bundle, and both in `dist/ollm-vscode.vsix`. */

import { createVSIX } from "@vscode/vsce";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync } from "node:fs";

const run = (command, ...args) => execFileSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });

/** Whatever builds wheels here. */
const root = "../..";
const uv = [process.env.UV, `${root}/.uv/bin/uv`].find((path) => path && existsSync(path));
const build = uv
  ? [uv, "build", "--quiet", "--wheel", "--out-dir", "daemon", root]
  : ["python3", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "daemon", root];

rmSync("daemon", { recursive: true, force: true });
run(...build);
run(process.execPath, "esbuild.mjs");
copyFileSync("../../LICENSE", "LICENSE");
await createVSIX({
  packagePath: "dist/ollm-vscode.vsix",
  dependencies: false,
  allowMissingRepository: true,
  rewriteRelativeLinks: false,
});
