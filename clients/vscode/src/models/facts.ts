/** What a server tells of a model, as several places ask for it. */

import type { ModelInfo } from "../protocol.gen.js";

/** Whether one can talk to it at all; of a server that does not tell, one tries. */
export function isForChat({ capabilities }: ModelInfo): boolean {
  return capabilities?.includes("completion") ?? true;
}

/** Tokens of the window it has, else of the one it could have. */
export function windowOf({ contextLength, maxContextLength }: ModelInfo): number | undefined {
  return contextLength ?? maxContextLength;
}

export function sizeOf({ sizeBytes }: ModelInfo): string {
  return sizeBytes === undefined ? "" : `${(sizeBytes / 1e9).toFixed(1)} GB`;
}
