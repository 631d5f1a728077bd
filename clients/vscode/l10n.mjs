/** `npm run l10n`: every sentence of the sources, for translators, in `l10n/bundle.l10n.json`. */

import { getL10nJson } from "@vscode/l10n-dev";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const files = readdirSync("src", { recursive: true }).filter((name) => name.endsWith(".ts"));
const sources = files.sort().map((name) => ({ extension: ".ts", contents: readFileSync(`src/${name}`, "utf8") }));
const found = await getL10nJson(sources);
const sorted = Object.fromEntries(Object.entries(found).sort(([left], [right]) => (left < right ? -1 : 1)));
const text = `${JSON.stringify(sorted, null, 2)}\n`;
const path = "l10n/bundle.l10n.json";
if (process.argv[2] === "check") {
  if (readFileSync(path, "utf8") !== text) {
    console.error(`${path} is stale: run \`npm run l10n\``);
    process.exit(1);
  }
} else {
  writeFileSync(path, text);
}
