import { describe, expect, it } from "vitest";
import { checkProtocol } from "../../src/daemon/protocol.js";
import { sentence } from "../../src/errors.js";

const of = (protocolVersion: string): unknown => ({ ollm: { protocolVersion, methods: [] } });

describe("a daemon's protocol", () => {
  it.each(["2.3", "2.4", "2.10"])("%s is understood by an extension for 2.3", (theirs) => {
    expect(() => checkProtocol(of(theirs), "Run `x`", "2.3")).not.toThrow();
  });

  it.each([
    ["2.2", /2\.2 .* too old.* 2\.3\. Run `x`, then restart it\./],
    ["1.9", /too old/],
    ["3.0", /does not know\. Update the extension\./],
  ])("%s is refused by it, with the way out", (theirs, said) => {
    expect(refusal(of(theirs))).toMatch(said);
  });

  it.each([undefined, {}, { other: {} }])("is what another language server has not: %j", (experimental) => {
    expect(refusal(experimental)).toBe("What was started is no ollm-daemon. Check the setting ollm.daemon.path.");
  });
});

function refusal(experimental: unknown): string {
  try {
    checkProtocol(experimental, "Run `x`", "2.3");
    return "";
  } catch (error) {
    return sentence(error);
  }
}
