/** `npm run package`: the daemon's wheel, the bundle, and both in `dist/ollm-vscode.vsix`. */

import { createVSIX } from "@vscode/vsce";
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync } from "node:fs";

const uv = process.env.UV ?? "../../.uv/bin/uv";
const run = (command, ...args) => execFileSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });

rmSync("daemon", { recursive: true, force: true });
run(uv, "build", "--quiet", "--wheel", "--out-dir", "daemon", "../..");
run(process.execPath, "esbuild.mjs");
copyFileSync("../../LICENSE", "LICENSE");
await createVSIX({
  packagePath: "dist/ollm-vscode.vsix",
  dependencies: false,
  allowMissingRepository: true,
  rewriteRelativeLinks: false,
});
