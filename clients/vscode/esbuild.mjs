/** Bundles the extension, or with `host` the tests that run inside VS Code. */

import { build } from "esbuild";
import { readdirSync } from "node:fs";

const common = {
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  external: ["vscode", "mocha"],
  sourcemap: true,
  logLevel: "warning",
};

if (process.argv[2] === "host") {
  const files = readdirSync("test/host").filter((name) => name.endsWith(".ts"));
  await build({ ...common, entryPoints: files.map((name) => `test/host/${name}`), outdir: "dist/host" });
} else {
  await build({ ...common, entryPoints: ["src/extension.ts"], outfile: "dist/extension.js", minify: true });
}
