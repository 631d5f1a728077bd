/** A window that uses a daemon somebody else has started. */

import { strict as assert } from "node:assert";
import { extension, pidOf, runMocha, until } from "./runner.js";

export function run(): Promise<void> {
  return runMocha(() => {
    it("speaks to it, and does not end it", async () => {
      const api = await extension();
      assert.equal(api.daemon.state.kind, "running");
      assert.equal(await pidOf(api), Number(process.env["OLLM_DAEMON_PID"]));
      const { message } = await api.daemon.request("ollm/chat", { messages: [{ role: "user", content: "Hi" }] });
      assert.equal(message.content, "Hello");
      await api.daemon.restart();
      assert.equal(await pidOf(api), Number(process.env["OLLM_DAEMON_PID"]));
    });

    it("says how to start it when it is gone", async () => {
      const api = await extension();
      process.kill(Number(process.env["OLLM_DAEMON_PID"]));
      const failed = await until(() => api.daemon.state.kind === "failed" && api.daemon.state, "it is gone", 60_000);
      assert.match(failed.reason, /^No daemon listens at 127\.0\.0\.1:\d+\. Start it with `ollm-daemon --tcp \d+`/);
    });
  });
}
