"""One kind of server as data: what it answers to GETs, and how its answers to a chat read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import SecretStr

from ollm_daemon.domain import ChatRequest, Credentials, FinishReason, Message, ModelInfo, Usage
from ollm_daemon.errors import ErrorKind
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.providers.catalog import KINDS
from ollm_daemon.urls import parse_base_url
from tests.conformance.evidence import Evidence
from tests.fakes.upstream import End, Reply, Request, ScriptedUpstream
from tests.providers.asking import settings_for

KEY = "sk-conformance-7f3a"
QUESTION = ChatRequest("m", (Message("user", "Say something."),))
Unknown = Callable[[Request], Reply]


@dataclass(frozen=True)
class Said:
    """An answer, and all that it says."""

    reply: Reply
    text: str = "Hi there"
    reason: FinishReason = "stop"
    usage: Usage | None = None
    thinking: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    note: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Failed:
    """An answer that is a failure, and what the user is told."""

    reply: Reply
    kind: ErrorKind
    words: str = ""
    partial: str = ""
    note: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Wire:
    """One kind of server.

    Attributes:
        gets: What it answers to a GET without a key.
        unknown: What it answers to any other request.
        locked: The same for a server that wants a key, as far as that differs; `*` is any other path.
        loading: What it answers to everything while it loads its model.
        known_as: As what it is identified; `None` when nothing gives it away.
        version: The version it tells.
        locked_state: What is found out about it when it wants a key.
        models: What its list means.
        chat: One streamed answer.
        whole: The same answer in one piece.
        thinking, tools: Streamed answers with reasoning, or with calls.
        failures: Scenario → answers to a chat.
    """

    backend: str
    evidence: Evidence
    gets: Mapping[str, Reply]
    unknown: Unknown
    models: tuple[ModelInfo, ...]
    chat: Said
    whole: Said
    kind: str = "openai-compatible"
    chat_path: str = "/v1/chat/completions"
    locked: Mapping[str, Reply] = field(default_factory=dict)
    loading: Reply | None = None
    known_as: str | None = ""
    version: str | None = None
    locked_state: Literal["ready", "locked"] = "locked"
    thinking: tuple[Said, ...] = ()
    tools: tuple[Said, ...] = ()
    failures: Mapping[str, tuple[Failed, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.known_as == "":
            object.__setattr__(self, "known_as", self.backend)

    def answers(
        self, posts: Mapping[str, Reply] | Reply | None = None, *, locked: bool = False
    ) -> Callable[[Request], Reply]:
        """The whole server: its GETs, and `posts` by path, or one for its chat."""
        table = posts if isinstance(posts, Mapping) else {self.chat_path: posts} if posts else {}

        def answer(request: Request) -> Reply:
            if locked and request.header("authorization") is None:
                reply = self.locked.get(request.path) or self.locked.get("*")
                if reply is not None:
                    return reply
            known = self.gets if request.method == "GET" else table
            return known.get(request.path) or self.unknown(request)

        return answer

    @asynccontextmanager
    async def serving(
        self,
        posts: Mapping[str, Reply] | Reply | None = None,
        *,
        key: bool = False,
        backend: str | None = None,
        gets: Mapping[str, Reply] | None = None,
        **settings: Any,
    ) -> AsyncIterator[tuple[ScriptedUpstream, ProviderAdapter]]:
        """This server, and a provider that was told what it is."""
        server = replace(self, gets={**self.gets, **(gets or {})})
        async with ScriptedUpstream(server.answers(posts)) as upstream:
            provider = provider_for(self, upstream.url, key=key, backend=backend, **settings)
            try:
                yield upstream, provider
            finally:
                await provider.aclose()


def provider_for(
    wire: Wire, url: str, *, key: bool = False, backend: str | None = None, **settings: Any
) -> ProviderAdapter:
    """A provider for a server at `url`."""
    if key:
        settings["credentials"] = Credentials(parse_base_url(url).origin, SecretStr(KEY))
    return KINDS[wire.kind](settings_for(url, wire.kind, backend or wire.backend, **settings))


def bytes_of(reply: Reply) -> bytes:
    """All bytes of a reply, joined."""
    return b"".join(step for step in reply.steps if isinstance(step, bytes))


def cut_after(reply: Reply, marker: bytes) -> Reply:
    """The reply up to the line in which `marker` stands, then the connection closes."""
    data = bytes_of(reply)
    end = data.index(b"\n", data.index(marker)) + 1
    following = b"\r\n" if data[end : end + 2] == b"\r\n" else b"\n"
    return Reply(data[: end + len(following)], End.CLOSE)


def emptied(reply: Reply) -> Reply:
    """The reply's head with nothing behind it."""
    head, blank, _ = bytes_of(reply).partition(b"\r\n\r\n")
    is_chunked = b"transfer-encoding: chunked" in head.lower()
    return Reply(head + blank + (b"0\r\n\r\n" if is_chunked else b""), End.CLOSE)


def with_body(status: str, body: bytes, *headers: str, version: str = "1.1") -> Reply:
    """An answer with exactly these headers and the body's length."""
    lines = [f"HTTP/{version} {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    end = (End.CLOSE,) if version == "1.0" or "Connection: close" in headers else ()
    return Reply("\r\n".join(lines).encode() + body, *end)


def chunked(headers: tuple[str, ...], pieces: tuple[bytes, ...]) -> Reply:
    """A chunked answer under status 200, one chunk and one step for each piece."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *headers, "Transfer-Encoding: chunked", "", ""]).encode()
    return Reply(head, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")
