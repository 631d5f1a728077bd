/** One chat: deltas while it runs, the whole answer in the end. */

import type { CancellationToken } from "vscode";
import type { ChatParams, ChatResult, Delta } from "../protocol.gen.js";
import type { Wire } from "../wire.js";

let chats = 0;

/** Ask, and show each delta; all of them come before the result. Cancelling stops the model. */
export async function streamChat(
  wire: Wire,
  params: Omit<ChatParams, "streamToken">,
  show: (delta: Delta) => void,
  token?: CancellationToken,
): Promise<ChatResult> {
  const streamToken = `chat-${++chats}`;
  const hearing = wire.on("ollm/completion/delta", (said) => {
    if (said.streamToken === streamToken) {
      show(said.delta);
    }
  });
  try {
    return await wire.request("ollm/chat", { ...params, streamToken }, token);
  } finally {
    hearing.dispose();
  }
}

/** The same for an answer that is text: shows what there is of it so far, and what is waited for. */
export async function streamText(
  wire: Wire,
  params: Omit<ChatParams, "streamToken">,
  show: (text: string) => void,
  progress: { report(step: { message: string }): void },
  token: CancellationToken,
): Promise<ChatResult> {
  let text = "";
  const take = (delta: Delta): void => {
    if (delta.kind === "text") {
      text += delta.text;
      show(text);
    } else if (delta.kind === "status") {
      progress.report({ message: delta.message });
    }
  };
  return streamChat(wire, params, take, token);
}
