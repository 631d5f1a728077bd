/** An Ollama that does what a test says, with its real routes and record shapes. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

type Answer = (body: Record<string, unknown>, response: ServerResponse) => void;

export class ScriptedOllama {
  readonly asked: { path: string; body: Record<string, unknown> }[] = [];
  /** Requests whose socket was closed before their answer was whole. */
  readonly left: string[] = [];
  models = ["talker:1b"];
  /** Entries of `/api/ps`. */
  loaded: { name: string; context_length: number }[] = [];
  readonly answers: Record<string, Answer> = {
    "/api/version": (_body, response) => send(response, { version: "0.30.1" }),
    "/api/tags": (_body, response) => send(response, { models: this.models.map(entry) }),
    "/api/ps": (_body, response) => send(response, { models: this.loaded }),
    "/api/show": (_body, response) =>
      send(response, {
        details: { family: "llama" },
        model_info: { "general.architecture": "llama", "llama.context_length": 32768 },
        capabilities: ["completion", "tools", "vision", "thinking"],
      }),
  };
  #server: Server | undefined;

  get url(): string {
    return `http://127.0.0.1:${(this.#server?.address() as AddressInfo).port}`;
  }

  async start(): Promise<this> {
    this.#server = createServer((request, response) => void this.#answer(request, response));
    await new Promise<void>((resolve) => this.#server?.listen(0, "127.0.0.1", resolve));
    return this;
  }

  stop(): void {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  /** The last request to a route. */
  last(path: string): Record<string, unknown> {
    return this.asked.filter((request) => request.path === path).at(-1)?.body ?? {};
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of request) {
      text += String(chunk);
    }
    const path = request.url ?? "";
    const body = JSON.parse(text || "{}") as Record<string, unknown>;
    this.asked.push({ path, body });
    response.on("close", () => {
      if (!response.writableEnded) {
        this.left.push(path);
      }
    });
    const answer = this.answers[path];
    if (answer) {
      answer(body, response);
    } else {
      send(response, { error: "not found" }, 404);
    }
  }
}

export function send(response: ServerResponse, body: object, status = 200): void {
  response.writeHead(status, { "Content-Type": "application/json; charset=utf-8" }).end(JSON.stringify(body));
}

/** Records of `/api/chat`, one line each; the last one ends the answer. */
export function chat(...messages: object[]): Answer {
  return (body, response) => {
    stream(response);
    for (const message of messages) {
      record(response, { model: body["model"], message: { role: "assistant", content: "", ...message }, done: false });
    }
    record(response, { model: body["model"], message: { role: "assistant", content: "" }, done: true, done_reason: "stop" });
    response.end();
  };
}

/** An answer that goes on until somebody closes the socket. */
export function endlessChat(): Answer {
  return (body, response) => {
    stream(response);
    const timer = setInterval(() => {
      record(response, { model: body["model"], message: { role: "assistant", content: "and " }, done: false });
    }, 20);
    response.on("close", () => clearInterval(timer));
  };
}

export function stream(response: ServerResponse): void {
  response.writeHead(200, { "Content-Type": "application/x-ndjson" });
}

export function record(response: ServerResponse, value: object): void {
  response.write(`${JSON.stringify(value)}\n`);
}

function entry(name: string): object {
  const details = { family: "llama", parameter_size: "1.2B", quantization_level: "Q4_K_M", context_length: 32768 };
  const capabilities = name.includes("embed") ? ["embedding"] : ["completion", "tools", "vision", "thinking"];
  return { name, model: name, size: 1_300_000_000, digest: "0".repeat(64), details, capabilities };
}
