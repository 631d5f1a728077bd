/** What the status bar says, from what is known. */

import { l10n } from "vscode";
import { modelName } from "./names.js";
import type { DaemonState } from "./daemon/daemon.js";

export interface Facts {
  daemon: DaemonState;
  provider: string | undefined;
  model: string | undefined;
  /** Why nothing can be offered, as the daemon told it. */
  unavailable: string | undefined;
  /** What takes long now, such as `Loading 40 %`. */
  working: string | undefined;
  /** Requests for text at the cursor that are under way. */
  completing: number;
  paused: boolean;
  /** The language of the editor in front, if text is offered in it or not. */
  language: string | undefined;
  offered: boolean;
}

export interface Face {
  icon: string;
  text: string;
  detail: string;
  severity: "plain" | "warning" | "error";
}

/** The most pressing fact wins. */
export function face(facts: Facts): Face {
  const who = [facts.provider, facts.model && modelName(facts.model)].filter(Boolean).join(" · ");
  const plain = (icon: string, text: string, detail: string): Face => ({ icon, text, detail, severity: "plain" });
  switch (facts.daemon.kind) {
    case "failed":
      return { icon: "error", text: "ollm", detail: facts.daemon.reason, severity: "error" };
    case "stopped":
      return plain("circle-slash", "ollm", l10n.t("The daemon is stopped."));
    case "starting":
      return plain("loading~spin", "ollm", l10n.t("The daemon is starting."));
    case "running":
  }
  if (facts.working) {
    return plain("loading~spin", facts.working, who);
  }
  if (facts.unavailable) {
    return { icon: "warning", text: who || "ollm", detail: facts.unavailable, severity: "warning" };
  }
  if (facts.paused) {
    return plain("debug-pause", who || "ollm", l10n.t("Text at the cursor is paused."));
  }
  if (!facts.offered && facts.language) {
    return plain("circle-slash", who || "ollm", l10n.t("Text at the cursor is off for {0}.", facts.language));
  }
  if (facts.completing > 0) {
    return plain("loading~spin", who || "ollm", l10n.t("Completing…"));
  }
  return plain("sparkle", who || "ollm", l10n.t("Ready."));
}
