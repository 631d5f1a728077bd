"""Somebody who types in an editor that asks for text at the cursor, and a llama.cpp that writes it.

    async with writing("print(x)") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        assert await typist.offers(typist.types("a = ")) == ["print(x)"]

What the writer says and when is up to the test: an answer is pieces of text and events to wait for.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio

from tests.fakes.peer import Peer, flags
from tests.fakes.upstream import Connection, Reply, Request, ScriptedUpstream, chunk, head, json_reply

INFILL = "/infill"
COUNT = "/v1/chat/completions/input_tokens"
INVOKED, AUTOMATIC = 1, 2
Answer = str | Reply | Sequence[str | anyio.Event]


class Writer:
    """A llama.cpp that writes what the test says: one answer for all, or one for each request in turn."""

    def __init__(self, *answers: Answer) -> None:
        self.upstream = ScriptedUpstream(self._reply)
        self.count: Reply = json_reply(200, {"input_tokens": 100})
        self._answers = [*answers]

    @property
    def asked(self) -> list[Any]:
        """Bodies of all requests for text, in the order in which they arrived."""
        return [request.json() for request in self.upstream.requests if request.path == INFILL]

    def paths(self, path: str) -> int:
        """How often a route was asked."""
        return sum(request.path == path for request in self.upstream.requests)

    def connection(self, number: int) -> Connection:
        """The connection that carried a request for text."""
        wanted = [request for request in self.upstream.requests if request.path == INFILL][number]
        return next(one for one in self.upstream.connections if wanted in one.requests)

    async def has_been_asked(self, times: int) -> None:
        """Wait for so many requests for text."""
        await self.upstream.until(lambda: len(self.asked) >= times)

    def options(self, **completion: Any) -> dict[str, Any]:
        """`initializationOptions` of an editor that uses it, without a pause after a keystroke."""
        options = flags(self.upstream.url, backend="llamacpp")
        options["flags"]["completion"] = {"debounceMs": 0, **completion}
        return options

    def _reply(self, request: Request) -> Reply:
        if request.path == INFILL:
            answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
            return answer if isinstance(answer, Reply) else infill_reply(answer)
        if request.path == COUNT:
            return self.count
        if request.path == "/v1/models":
            return json_reply(200, {"data": [{"id": "m", "meta": {"n_ctx": 4096}}]})
        return json_reply(200, {})


def infill_reply(answer: str | Sequence[str | anyio.Event]) -> Reply:
    """An answer of `/infill`, a record for each piece of text."""
    parts = [answer] if isinstance(answer, str) else answer
    start = head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
    steps = [part if isinstance(part, anyio.Event) else _record(content=part) for part in parts]
    return Reply(start, *steps, _record(content="", stop=True, stop_type="eos"), chunk(b""))


def _record(**record: Any) -> bytes:
    return chunk(b"data: %b\n\n" % json.dumps(record).encode())


@contextlib.asynccontextmanager
async def writing(*answers: Answer) -> AsyncIterator[Writer]:
    """A writer that listens."""
    writer = Writer(*answers)
    async with writer.upstream:
        yield writer


class Typist:
    """One document, its cursor, and who types there."""

    def __init__(
        self, peer: Peer, name: str = "a.py", before: str = "", behind: str = "", language: str = "python"
    ) -> None:
        self.peer = peer
        self.uri = f"file:///work/{name}"
        self.before, self.behind = before, behind
        self._versions = itertools.count(1)
        document = {"uri": self.uri, "languageId": language, "version": 0, "text": before + behind}
        peer.notify("textDocument/didOpen", {"textDocument": document})

    def types(self, text: str, **more: Any) -> int:
        """Write at the cursor and ask there; gives the request's id."""
        self.change(text)
        return self.asks(**more)

    def change(self, text: str = "", *, take: int = 0) -> None:
        """Take characters away before the cursor and write others."""
        end = _position(self.before)
        self.before = self.before[: len(self.before) - take]
        change = {"range": {"start": _position(self.before), "end": end}, "text": text}
        self.before += text
        document = {"uri": self.uri, "version": next(self._versions)}
        params = {"textDocument": document, "contentChanges": [change]}
        self.peer.notify("textDocument/didChange", params)

    def asks(self, trigger: int = AUTOMATIC) -> int:
        """Ask for text at the cursor; gives the request's id."""
        params = {
            "textDocument": {"uri": self.uri},
            "position": _position(self.before),
            "context": {"triggerKind": trigger},
        }
        identifier: int = self.peer.ask("textDocument/inlineCompletion", params)
        return identifier

    def close(self) -> None:
        """Close the document."""
        self.peer.notify("textDocument/didClose", {"textDocument": {"uri": self.uri}})

    def cancel(self, identifier: int) -> None:
        """Take a request back."""
        self.peer.notify("$/cancelRequest", {"id": identifier})

    async def offers(self, identifier: int) -> list[str]:
        """Texts of a request's answer, waited for."""
        message = await self.peer.answer(identifier)
        assert "error" not in message, message
        return [item["insertText"] for item in message["result"]["items"]]

    def answers(self, identifier: int) -> list[Any]:
        """Everything that has answered a request so far."""
        return [m for m in self.peer.messages if "method" not in m and m.get("id") == identifier]


def _position(text: str) -> dict[str, int]:
    lines = text.split("\n")
    return {"line": len(lines) - 1, "character": len(lines[-1])}


def always(answer: Callable[[], Answer], times: int = 100) -> list[Answer]:
    """The same for each of many requests, made anew for each."""
    return [answer() for _ in range(times)]
