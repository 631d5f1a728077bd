"""Who fills holes: the model as it is, and the daemon as an editor asks it. Both over one connection."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio

from ollm_daemon.completion.asking import CHARACTERS_PER_TOKEN, LINE_TOKENS, from_line, to_line
from tests.benchmarks.fim.holes import Hole
from tests.benchmarks.fim.scores import Filling, filling
from tests.fakes.peer import Peer

BLOCK_TOKENS = 128
HOLE_SECONDS = 60.0
"""After which a hole counts as left empty."""


class WriterError(Exception):
    """Nobody fills holes here; the sentence says why."""


async def fill_holes(
    peer: Peer, holes: Sequence[Hole], *, context_tokens: int, seconds: float
) -> list[Filling]:
    """Fill as many holes as the time allows, each by both writers in turn."""
    fillings: list[Filling] = []
    end = time.monotonic() + seconds
    plainly = partial(fill_plainly, room=int(context_tokens * CHARACTERS_PER_TOKEN))
    writers = (("plain", plainly), ("daemon", fill_as_offered))
    for number, hole in enumerate(holes):
        if time.monotonic() > end:
            break
        for name, fill in writers if number % 2 else writers[::-1]:
            began = time.monotonic()
            text = ""
            with anyio.move_on_after(HOLE_SECONDS):
                text = await fill(peer, hole)
            fillings.append(filling(name, hole, text, (time.monotonic() - began) * 1e3))
        for problem in _problems(peer):
            print(f"{hole.path.name}: {problem}", file=sys.stderr)
    return sorted(fillings, key=lambda one: one.writer != "plain")


async def fill_plainly(peer: Peer, hole: Hole, room: int) -> str:
    """The model's own words, from a window of the text like the daemon's."""
    params = {
        "prefix": from_line(hole.prefix, room // 2),
        "suffix": to_line(hole.suffix, room // 6),
        "path": hole.path.name,
        "options": {"temperature": 0, "maxTokens": BLOCK_TOKENS if hole.kind == "block" else LINE_TOKENS},
    }
    message = await peer.answer(peer.ask("ollm/infill", params))
    if "error" in message:
        data = message["error"].get("data") or {}
        raise WriterError(f"{message['error']['message']} {data.get('hint', '')}".strip())
    return str(message["result"]["text"])


async def fill_as_offered(peer: Peer, hole: Hole) -> str:
    """What an editor shows that has the file and its neighbours open."""
    opened = [(path, path.read_text(encoding="utf-8", errors="replace")) for path in hole.neighbours]
    opened.append((hole.path, hole.prefix + hole.suffix))
    for path, text in opened:
        document = {"uri": path.as_uri(), "languageId": hole.language, "version": 1, "text": text}
        peer.notify("textDocument/didOpen", {"textDocument": document})
    params: dict[str, Any] = {
        "textDocument": {"uri": hole.path.as_uri()},
        "position": _position(hole.prefix),
        "context": {"triggerKind": 2},
    }
    try:
        result = await peer.request("textDocument/inlineCompletion", params)
    finally:
        for path, _ in opened:
            peer.notify("textDocument/didClose", {"textDocument": {"uri": path.as_uri()}})
    return str(result["items"][0]["insertText"]) if result["items"] else ""


def _position(text: str) -> dict[str, int]:
    line = text[text.rfind("\n") + 1 :]
    return {"line": text.count("\n"), "character": len(line.encode("utf-16-le")) // 2}


def _problems(peer: Peer) -> list[str]:
    """What the daemon has complained of since it was looked at last."""
    states = [m["params"] for m in peer.messages if m.get("method") == "ollm/completion/didChange"]
    peer.messages.clear()
    return [state["message"] for state in states if state["state"] != "ready"]
