/** Files that the user keeps to themselves, as the daemon knows them. */

import type { Wire } from "./wire.js";

/** Those of the files that are not to be sent unless the user handed them over. */
export async function excludedOf(wire: Wire, uris: readonly string[]): Promise<ReadonlySet<string>> {
  if (uris.length === 0) {
    return new Set();
  }
  return new Set((await wire.request("ollm/privacy/check", { uris: [...uris] })).excluded);
}

/** One file's part of a diff. */
export interface DiffPart {
  path: string;
  text: string;
}

/** A diff of git, file by file. */
export function partsOf(diff: string): DiffPart[] {
  return diff
    .split(/^(?=diff --git )/m)
    .filter((text) => text.trim() !== "")
    .map((text) => ({ path: /^diff --git .* "?b\/(.*?)"?$/m.exec(text)?.[1] ?? "", text }));
}
