/** Whether this extension and a daemon speak the same protocol. */

import { l10n } from "vscode";
import { Trouble } from "../errors.js";
import { PROTOCOL_VERSION, type ExperimentalCapability } from "../protocol.gen.js";

/**
 * A daemon of another major version speaks another language; one of an earlier minor version lacks methods.
 *
 * @param experimental `capabilities.experimental` of the answer to `initialize`.
 * @param upgrade What brings the daemon up to date.
 * @throws Trouble They do not fit.
 */
export function checkProtocol(experimental: unknown, upgrade: string, ours: string = PROTOCOL_VERSION): void {
  const theirs = (experimental as { ollm?: ExperimentalCapability } | undefined)?.ollm?.protocolVersion;
  if (theirs === undefined) {
    throw new Trouble(l10n.t("What was started is no ollm-daemon."), l10n.t("Check the setting ollm.daemon.path."));
  }
  const [[major, minor], [ourMajor, ourMinor]] = [parts(theirs), parts(ours)];
  if (major < ourMajor || (major === ourMajor && minor < ourMinor)) {
    throw new Trouble(
      l10n.t("The daemon speaks version {0} of the protocol, which is too old: this extension needs {1}.", theirs, ours),
      l10n.t("{0}, then restart it.", upgrade),
    );
  }
  if (major > ourMajor) {
    throw new Trouble(
      l10n.t("The daemon speaks version {0} of the protocol, which this extension does not know.", theirs),
      l10n.t("Update the extension."),
    );
  }
}

function parts(version: string): [number, number] {
  const [major, minor] = version.split(".");
  return [Number(major), Number(minor ?? 0)];
}
