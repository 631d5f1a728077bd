/** What `ollm doctor` finds, as a document; and what may be copied into a bug report. */

import { l10n, type CancellationToken } from "vscode";
import { sentence } from "./errors.js";
import { sizeOf, windowOf } from "./models/facts.js";
import { stateName } from "./names.js";
import type { DetectedServer, EffectiveSetting, ModelInfo, ProvidersCheckResult, StatusResult } from "./protocol.gen.js";
import type { Wire } from "./wire.js";

/** Try every provider that is in use or answers. `tell` names each that is being looked at. */
export async function examine(wire: Wire, tell: (provider: string) => void, token?: CancellationToken): Promise<string> {
  const [status, { providers }, { servers }, { problems }] = await Promise.all([
    wire.request("ollm/status", {}),
    wire.request("ollm/providers/list", {}),
    wire.request("ollm/providers/detect", {}),
    wire.request("ollm/config/get", {}),
  ]);
  const answering = new Set(servers.map((server) => server.provider));
  const sections: string[] = [];
  for (const provider of providers.filter((one) => one.isDefault || answering.has(one.name))) {
    tell(provider.name);
    sections.push(
      await wire.request("ollm/providers/check", { provider: provider.name, generate: true }, token).then(
        renderCheck,
        (error: unknown) => `## ${plain(provider.name)}\n\n${plain(sentence(error))}\n`,
      ),
    );
  }
  const others = servers.filter((server) => server.provider === undefined);
  return [
    `# ${l10n.t("Doctor")}\n`,
    `ollm-daemon ${status.version}, ${l10n.t("protocol {0}", status.protocolVersion)}\n`,
    ...problems.map(({ message, hint }) => `- ${plain(message)}${hint ? ` ${hinted(hint)}` : ""}`),
    ...sections,
    ...(others.length > 0 ? [renderOthers(others)] : []),
  ].join("\n");
}

/** A hint of the daemon's, whose commands stand between backticks. */
function hinted(hint: string): string {
  const parts = hint.split(/(`[^`]*`)/);
  return parts.map((part) => (part.startsWith("`") ? part : plain(part))).join("");
}

/** Servers name themselves and their models; that is text, and neither a table, a link nor an image. */
function plain(text: string): string {
  return text.replace(/[\\`*_{}[\]()#+!|<>~]/g, "\\$&").replace(/\s+/g, " ");
}

export function renderCheck(check: ProvidersCheckResult): string {
  const { provider, baseUrl, backend, version, state, trial } = check;
  const who = [[backend, version].filter(Boolean).join(" "), baseUrl].filter(Boolean).join(" · ");
  const lines = [`## ${plain(provider)}: ${stateName(state)}`, "", plain(who)];
  for (const problem of check.problems) {
    lines.push("", `**${plain(problem.message)}**${problem.hint ? ` ${hinted(problem.hint)}` : ""}`);
  }
  if (trial) {
    const rate = trial.tokensPerSecond === undefined ? "" : l10n.t(", {0} tokens/s", trial.tokensPerSecond.toFixed(0));
    lines.push("", l10n.t("{0} wrote its first word after {1} ms{2}.", plain(trial.model), Math.round(trial.firstTokenMs), rate));
  }
  if (check.models.length > 0) {
    lines.push("", `| ${l10n.t("Model")} | ${l10n.t("Size")} | ${l10n.t("Window")} | ${l10n.t("Can")} |`, "| --- | ---: | ---: | --- |");
    lines.push(...check.models.map(renderModel));
  }
  return `${lines.join("\n")}\n`;
}

function renderModel(model: ModelInfo): string {
  const cells = [
    model.loaded ? `**${plain(model.id)}**` : plain(model.id),
    sizeOf(model),
    windowOf(model)?.toLocaleString() ?? "",
    plain(model.capabilities?.join(", ") ?? ""),
  ];
  return `| ${cells.join(" | ")} |`;
}

function renderOthers(servers: readonly DetectedServer[]): string {
  const lines = servers.map(({ title, baseUrl }) => `- ${plain(title)} · ${plain(baseUrl)}`);
  return `## ${l10n.t("Also here, and not configured")}\n\n${lines.join("\n")}\n`;
}

/** Versions, counts and settings. Secrets are masked by the daemon; addresses are cut to their kind here. */
export function diagnostics(
  versions: Readonly<Record<string, string>>,
  daemon: string,
  status: StatusResult | undefined,
  settings: readonly EffectiveSetting[],
): string {
  const said = settings
    .filter(({ origin }) => origin.layer !== "default")
    .map(({ key, value, origin }) => `${key} = ${shown(key, value)} (${origin.layer})`);
  return [
    ...Object.entries(versions).map(([name, version]) => `${name}: ${version}`),
    `daemon: ${daemon}`,
    ...(status ? [`completion: ${JSON.stringify(status.completion)}`] : []),
    "",
    ...said,
    "",
  ].join("\n");
}

/** Whatever may hold a name, a path or a key is told by its kind alone. */
function shown(key: string, value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean") {
    return String(value);
  }
  if (typeof value !== "string") {
    return "…";
  }
  if (key.endsWith(".baseUrl")) {
    return /^https?:\/\/(localhost|127\.[\d.]+|\[::1\])(:|\/|$)/i.test(value) ? "(this machine)" : "(another machine)";
  }
  const isPrivate = /\.(headers|proxy|extraBody|apiKey|\w+(File|Cert|Key|Path))\b/.test(key) || key.startsWith("privacy.");
  return isPrivate || isPlace(value) ? "…" : value;
}

/** Whether it may be a path or an address, as names of models sometimes are. */
function isPlace(value: string): boolean {
  return /^[~/.]|^[a-z]:|\/\/|\\/i.test(value);
}
