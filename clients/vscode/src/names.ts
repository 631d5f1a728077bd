/** Names for people. */

import { l10n } from "vscode";
import type { ProvidersCheckResult } from "./protocol.gen.js";

/** A model by the end of its path: llama.cpp and others name a model by the file it is in. */
export function modelName(id: string): string {
  const isPath = /^([/~]|[A-Za-z]:[\\/])/.test(id) || id.endsWith(".gguf");
  if (!isPath) {
    return id;
  }
  const parts = id.split(/[\\/]/).filter((part) => part !== "");
  return parts.at(-1)?.replace(/\.gguf$/, "") || id;
}

/** How a server does. */
export function stateName(state: ProvidersCheckResult["state"]): string {
  const names = {
    ready: l10n.t("ready"),
    loading: l10n.t("loading a model"),
    locked: l10n.t("wants an API key"),
    unreachable: l10n.t("cannot be reached"),
    broken: l10n.t("does not work"),
  };
  return names[state];
}
