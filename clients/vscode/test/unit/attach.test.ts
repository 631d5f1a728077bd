import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dial, parseAddress, start, tokenOf, type Attached } from "../../src/daemon/attach.js";
import { sentence } from "../../src/errors.js";
import { closedPort, failure, temporary, write } from "./world.js";

describe("a daemon that is started", () => {
  const folder = temporary();
  let count = 0;

  /** Start a program of Node's. */
  function started(script: string, log: (line: string) => void = () => undefined): Attached {
    const path = write(join(folder, `${++count}.cjs`), script);
    return start({ origin: "path", command: process.execPath, args: [path], version: "" }, folder, "debug", log);
  }

  /** Start one, and wait until it has said that it is ready. */
  async function ready(script: string): Promise<Attached> {
    return new Promise((resolve) => {
      const attached = started(`${script}\nconsole.error("ready")`, () => resolve(attached));
    });
  }

  it("gets its arguments and its folder, and speaks on its standard streams", async () => {
    const { reader, writer, gone } = started(`
      console.log(JSON.stringify([process.argv.slice(2), process.cwd()]));
      process.stdin.on("data", (text) => process.stdout.write("heard " + text));
    `);
    writer.write("one\n");
    const lines: string[] = [];
    for await (const line of createInterface({ input: reader })) {
      lines.push(line);
      if (lines.length === 2) {
        writer.end();
      }
    }
    await gone;
    expect(lines).toEqual([JSON.stringify([["--stdio", "--log-level", "debug"], folder]), "heard one"]);
  });

  it("has each line of its standard error logged, the last one too", async () => {
    const lines: string[] = [];
    const attached = started('process.stderr.write("fir"); process.stderr.write("st\\r\\n\\n  second\\nlast w"); process.stderr.write("örds")', (line) =>
      lines.push(line),
    );
    await attached.gone;
    expect(lines).toEqual(["first", "second", "last wörds"]);
    expect(attached.lastWords()).toBe("last wörds");
  });

  it("is gone when it dies", async () => {
    const attached = started('console.error("I cannot."); process.exit(78)');
    await attached.gone;
    expect(attached.lastWords()).toBe("I cannot.");
  });

  it("is gone at once where it cannot be started", async () => {
    const command = join(folder, "none");
    const attached = start({ origin: "path", command, args: [], version: "" }, folder, "warning", () => undefined);
    await attached.gone;
    expect(attached.lastWords()).toBe(`spawn ${command} ENOENT`);
    attached.end();
  });

  it("that is ended may still do what it does when its input ends", async () => {
    const mark = join(folder, "mark");
    const attached = await ready(`process.stdin.resume().on("end", () => require("fs").writeFileSync(${JSON.stringify(mark)}, ""))`);
    attached.end();
    await attached.gone;
    expect(existsSync(mark)).toBe(true);
  });

  it("that is ended and does not leave is killed", async () => {
    const attached = await ready('process.on("SIGTERM", () => undefined); setInterval(() => undefined, 1000)');
    attached.end();
    await attached.gone;
  });
});

describe("a daemon that listens", () => {
  let server: Server;
  let address: { host: string; port: number };
  const accepted: Socket[] = [];

  beforeAll(async () => {
    server = createServer((socket) => {
      accepted.push(socket);
      socket.on("error", () => undefined).on("data", (data) => socket.write(`heard ${data.toString()}`));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    address = { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
  });
  afterAll(async () => {
    accepted.forEach((socket) => socket.destroy());
    await new Promise((resolve) => server.close(resolve));
  });

  /** Connect, and see that both sides hear each other. */
  async function dialled(): Promise<[Attached, Socket]> {
    const attached = await dial(address);
    attached.writer.write("one");
    const [data] = (await once(attached.reader, "data")) as [Buffer];
    expect(data.toString()).toBe("heard one");
    return [attached, accepted.at(-1)!];
  }

  it("is spoken to over its socket", async () => {
    const [attached] = await dialled();
    expect(attached.lastWords()).toBe("");
    attached.end();
    await attached.gone;
  });

  it("is gone when it closes the socket", async () => {
    const [attached, theirs] = await dialled();
    theirs.destroy();
    await attached.gone;
  });

  it("is gone when the connection breaks", async () => {
    const [attached, theirs] = await dialled();
    theirs.resetAndDestroy();
    await attached.gone;
  });

  it("sees its socket closed at the end", async () => {
    const [attached, theirs] = await dialled();
    const closed = once(theirs, "close");
    attached.end();
    await closed;
  });

  it("that is not there is told of with what to do", async () => {
    const port = await closedPort();
    expect(sentence(await failure(dial({ host: "127.0.0.1", port })))).toBe(
      `No daemon listens at 127.0.0.1:${port}. Start it with \`ollm-daemon --tcp ${port}\`, or empty the setting ollm.daemon.connect.`,
    );
  });
});

describe("an address", () => {
  it.each([
    ["7000", "127.0.0.1", 7000],
    [" 7000 ", "127.0.0.1", 7000],
    [":7000", "127.0.0.1", 7000],
    ["127.0.0.1:7000", "127.0.0.1", 7000],
    ["localhost:7000", "127.0.0.1", 7000],
    ["gpu.corp.example:65535", "gpu.corp.example", 65535],
    ["[::1]:7000", "::1", 7000],
  ])("%j is %s, port %i", (text, host, port) => {
    expect(parseAddress(text)).toEqual({ host, port });
  });

  it.each(["", "localhost", "localhost:", "0", "65536", "123456", "-1", "7e3", "::1:7000", "http://localhost:7000", "localhost:7000/x"])("is not %j", (text) => {
    expect(() => parseAddress(text)).toThrow(`\`${text}\` is no address.`);
  });
});

describe("a token", () => {
  const home = temporary();
  const place = (folder: string, name: string, text: string): string => write(join(home, folder, "ollm/run", name), text);
  const runtime = { XDG_RUNTIME_DIR: join(home, "runtime") };
  const state = { XDG_STATE_HOME: join(home, "state") };

  place("runtime", "daemon-1.json", '{"token": "of runtime"}');
  place(".local/state", "daemon-1.json", '{"token": "of home"}');
  place(".local/state", "daemon-2.json", '{"token": "of home"}');
  place("state", "daemon-2.json", '{"token": "of state"}');
  place("runtime", "daemon-3.json", '{"tok');
  place(".local/state", "daemon-3.json", '{"token": "of home"}');
  place("runtime", "daemon-4.json", "null");
  place("runtime", "daemon-5.json", '{"token": 5}');
  place("runtime", "daemon-__1-6.json", '{"token": "of ::1"}');
  place("runtime", "daemon-10.0.0.2-6.json", '{"token": "of 10.0.0.2"}');

  it.each<[string, string, number, Record<string, string>, string | undefined]>([
    ["is that of the runtime folder", "127.0.0.1", 1, runtime, "of runtime"],
    ["is that of the home folder where there is no runtime folder", "127.0.0.1", 1, {}, "of home"],
    ["is that of the home folder where the runtime folder has none", "127.0.0.1", 2, runtime, "of home"],
    ["is that of the state folder where one is set", "127.0.0.1", 2, { ...runtime, ...state }, "of state"],
    ["is that of the home folder where the others are empty", "127.0.0.1", 1, { XDG_RUNTIME_DIR: "", XDG_STATE_HOME: "" }, "of home"],
    ["is none of a file that is cut", "127.0.0.1", 3, { ...runtime, ...state }, undefined],
    ["is looked for behind a file that is cut", "127.0.0.1", 3, runtime, "of home"],
    ["is none of a file that says nothing", "127.0.0.1", 4, runtime, undefined],
    ["is none of a file that says something else", "127.0.0.1", 5, runtime, undefined],
    ["is that of the address", "10.0.0.2", 6, runtime, "of 10.0.0.2"],
    ["is that of an IPv6 address", "::1", 6, runtime, "of ::1"],
    ["is none where nobody listens", "127.0.0.1", 7, runtime, undefined],
  ])("%s", async (_what, host, port, environment, expected) => {
    expect(await tokenOf({ host, port }, environment, home)).toBe(expected);
  });
});
