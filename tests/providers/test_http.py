"""The door to an upstream: limits in time and size, named errors with their hints, and what may leave."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from ollm_daemon.domain import Credentials, Timeouts
from ollm_daemon.errors import (
    BrokenAnswerError,
    ErrorKind,
    ProviderError,
    RefusedError,
    TimeoutPassedError,
    UnreachableError,
)
from ollm_daemon.providers import _transport
from ollm_daemon.providers._http import MAX_BODY, UpstreamClient
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.catalog import KINDS
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider
from ollm_daemon.urls import parse_base_url
from tests.fakes.upstream import (
    End,
    Reply,
    Request,
    ScriptedUpstream,
    Step,
    body_reply,
    chunk,
    head,
    json_reply,
    ndjson_reply,
    sse_reply,
)
from tests.providers.asking import PATIENCE, QUESTION, ask, settings_for

pytestmark = pytest.mark.anyio

K = ErrorKind
LONG = Timeouts(connect=5, first_token=PATIENCE, idle=PATIENCE, stall=PATIENCE, total=PATIENCE)
SSE_HEAD = head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
NDJSON_HEAD = head(200, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked")
TEXT = chunk(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
STOP = chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
PING = chunk(b": ping\n\n")
OK = json_reply(200, {"ok": True})


def page_reply(status: int) -> Reply:
    """HTML, as another program or a proxy would answer."""
    page = b"<!doctype html>\n<html>\n<body>Welcome\n</body></html>\n"
    return body_reply(status, page, "Content-Type: text/html")


@asynccontextmanager
async def client_for(url: str, backend: str = "generic", **rest: Any) -> AsyncIterator[UpstreamClient]:
    rest.setdefault("timeouts", LONG)
    client = UpstreamClient(settings_for(url, backend=backend, **rest), BACKENDS[backend])
    try:
        with anyio.fail_after(PATIENCE):
            yield client
    finally:
        await client.aclose()
    assert client.open_connections == 0


async def body_of(
    client: UpstreamClient, path: str = "/x", timeouts: Timeouts = LONG, limit: int = MAX_BODY
) -> bytes:
    async with client.open_stream("GET", path, None, timeouts) as stream:
        return await stream.read_all(limit)


async def failure_of(client: UpstreamClient, path: str = "/x") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await client.get_json(path, LONG)
    return caught.value


def key_for(url: str, key: str = "sk-local-test") -> Credentials:
    return Credentials(parse_base_url(url).origin, SecretStr(key))


@pytest.fixture
def no_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that waits for closing bytes is not seen closed within a test's patience."""
    monkeypatch.setattr(_transport, "DRAIN_SECONDS", 6 * PATIENCE)


# Time

QUICK, SLOW = 0.05, 0.3
Slowness = tuple[list[Step], Timeouts, ErrorKind]


def within(**limits: float) -> Timeouts:
    return Timeouts(**{"first_token": 5.0, "idle": 5.0, "stall": 5.0, "total": 5.0, **limits})


def drip(piece: bytes) -> list[Step]:
    """A hundred times a second, for longer than any limit here."""
    return [piece, 0.01] * 500


SLOWNESS: dict[str, Slowness] = {
    "silence": ([End.STALL], within(first_token=QUICK), K.TIMEOUT_FIRST_TOKEN),
    "half a head": ([b"HTTP/1.1 200", End.STALL], within(first_token=QUICK), K.TIMEOUT_FIRST_TOKEN),
    "a head alone": ([SSE_HEAD, End.STALL], within(first_token=QUICK), K.TIMEOUT_FIRST_TOKEN),
    "pings alone": ([SSE_HEAD, *drip(PING)], within(first_token=QUICK), K.TIMEOUT_FIRST_TOKEN),
    "deltas without text": (
        [SSE_HEAD, *drip(chunk(b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'))],
        within(first_token=QUICK),
        K.TIMEOUT_FIRST_TOKEN,
    ),
    "silence after text": ([SSE_HEAD, TEXT, End.STALL], within(idle=QUICK), K.TIMEOUT_IDLE),
    "half an event after text": (
        [SSE_HEAD, TEXT, chunk(b"data: {"), End.STALL],
        within(idle=QUICK),
        K.TIMEOUT_IDLE,
    ),
    "pings after text": ([SSE_HEAD, TEXT, *drip(PING)], within(idle=SLOW, stall=QUICK), K.TIMEOUT_IDLE),
    "text without end": ([SSE_HEAD, *drip(TEXT)], within(idle=SLOW, total=SLOW), K.TIMEOUT_TOTAL),
    "silence, total first": ([End.STALL], within(total=QUICK), K.TIMEOUT_TOTAL),
}


@pytest.mark.parametrize("name", SLOWNESS)
async def test_a_phase_over_its_limit(name: str) -> None:
    steps, timeouts, kind = SLOWNESS[name]
    async with ScriptedUpstream(Reply(*steps)) as upstream:
        provider = OpenAICompatibleProvider(settings_for(upstream.url, timeouts=timeouts))
        started_at = asyncio.get_running_loop().time()
        answer = await ask(provider)
        took = asyncio.get_running_loop().time() - started_at
        assert isinstance(answer.error, TimeoutPassedError)
        assert answer.error.kind is kind
        assert "timeouts" in answer.error.hint
        assert 0.9 * QUICK < took < 4
        assert bool(answer.text) is (TEXT in steps)
        await upstream.connections[0].peer_closed()
        assert provider.open_connections == 0
        await provider.aclose()


async def test_bytes_of_any_kind_keep_an_answer_alive() -> None:
    """Slow but steady: longer than the idle limit in all, never in one piece."""
    steps: list[Step] = [SSE_HEAD, TEXT, *drip(PING)[:240], TEXT, STOP, chunk(b"")]
    async with ScriptedUpstream(Reply(*steps)) as upstream:
        provider = OpenAICompatibleProvider(settings_for(upstream.url, timeouts=within(idle=1.0)))
        assert (await ask(provider)).text == "aa"
        await provider.aclose()


async def test_a_limit_in_time_is_no_limit_for_others() -> None:
    replies = {"/stall": Reply(End.STALL), "/ok": OK}
    async with ScriptedUpstream(replies) as upstream, client_for(upstream.url) as client:
        with pytest.raises(TimeoutPassedError):
            await body_of(client, "/stall", within(first_token=QUICK))
        assert json.loads(await body_of(client, "/ok")) == {"ok": True}


async def test_connecting_in_time() -> None:
    """TLS to a server that says nothing."""
    async with (
        ScriptedUpstream(greeting=Reply(End.STALL)) as upstream,
        client_for(upstream.url.replace("http", "https")) as client,
    ):
        with pytest.raises(TimeoutPassedError) as caught:
            await body_of(client, timeouts=within(connect=QUICK))
        assert caught.value.kind is K.TIMEOUT_CONNECT
        assert "Is the server running?" in caught.value.hint


# Statuses

GET_KEY = "`providers.here.apiKey` in the user configuration"
STATUSES: dict[int, tuple[ErrorKind, str, bool]] = {
    300: (K.REDIRECT, "`providers.here.baseUrl`", False),
    400: (K.INVALID, "", False),
    401: (K.AUTH, f"The server wants a key: set {GET_KEY}.", False),
    402: (K.INVALID, "", False),
    403: (K.FORBIDDEN, f"The server wants a key: set {GET_KEY}.", False),
    404: (K.NOT_FOUND, "", False),
    405: (K.PROTOCOL, "Check `providers.here.baseUrl`: is another program listening there?", False),
    408: (K.BACKEND, "", True),
    409: (K.BACKEND, "", True),
    413: (K.TOO_LARGE, "", False),
    422: (K.INVALID, "", False),
    425: (K.BACKEND, "", True),
    429: (K.RATE_LIMITED, "Wait a moment and try again.", True),
    500: (K.BACKEND, "", True),
    501: (K.UNSUPPORTED, "", False),
    502: (K.BACKEND, "", True),
    503: (K.OVERLOADED, "The server is busy; try again.", True),
    504: (K.BACKEND, "", True),
    529: (K.OVERLOADED, "The server is busy; try again.", True),
    599: (K.OVERLOADED, "The server is busy; try again.", True),
}


@pytest.mark.parametrize("status", STATUSES)
async def test_status(status: int) -> None:
    kind, hint, retryable = STATUSES[status]
    reply = json_reply(status, {"error": {"message": "the reason"}})
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert isinstance(error, RefusedError)
        assert (error.kind, error.status, error.retryable) == (kind, status, retryable)
        assert error.hint == hint or (kind is K.REDIRECT and hint in error.hint)
        assert f"at {upstream.url} answered {status}" in str(error)
        assert ("the reason" in str(error)) is (kind is not K.REDIRECT)
        assert not error.loading


HINTS: dict[str, tuple[str, Reply, ErrorKind, str]] = {
    "ollama model": (
        "ollama",
        json_reply(404, {"error": "model 'm' not found"}),
        K.NOT_FOUND,
        "`ollama pull {model}`",
    ),
    "LM Studio model": (
        "lmstudio",
        json_reply(404, {"error": "Model m not found"}),
        K.NOT_FOUND,
        "`lms get {model}`",
    ),
    "vLLM key": ("vllm", json_reply(401, {"error": "Unauthorized"}), K.AUTH, "`providers.here.apiKey` in"),
    "llama.cpp context": (
        "llamacpp",
        json_reply(400, {"error": {"message": "x", "type": "exceed_context_size_error"}}),
        K.CONTEXT_LENGTH,
        "with a larger `-c`",
    ),
    "page, not found": ("generic", page_reply(404), K.PROTOCOL, "Check `providers.here.baseUrl`"),
    "page, bad gateway": ("generic", page_reply(502), K.BACKEND, ""),
}


@pytest.mark.parametrize("name", HINTS)
async def test_hint_of_a_backend(name: str) -> None:
    backend, reply, kind, hint = HINTS[name]
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url, backend) as client:
        error = await failure_of(client)
        assert error.kind is kind
        assert hint in error.hint
        assert bool(hint) is bool(error.hint)
        assert BACKENDS[backend].title.lower() in str(error).lower()


async def test_loading() -> None:
    reply = json_reply(503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert (error.kind, error.loading) == (K.OVERLOADED, True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("86400", 86400.0),
        ("86401", 86400.0),
        ("99999999", 86400.0),
        ("999999999", None),
        ("9" * 5000, None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1_0", None),
        ("\u0665", None),
        ("\u00b2", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (None, None),
    ],
)
async def test_retry_after(value: str | None, seconds: float | None) -> None:
    field = [] if value is None else [f"Retry-After: {value.encode().decode('latin-1')}"]
    async with ScriptedUpstream(body_reply(429, b"", *field)) as upstream, client_for(upstream.url) as client:
        assert (await failure_of(client)).retry_after == seconds


async def test_an_error_under_status_200() -> None:
    reply = json_reply(200, {"error": "Unexpected endpoint or method. (GET /x)"})
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert isinstance(error, RefusedError)
        assert error.kind is K.PROTOCOL


async def test_an_error_page_is_shown_as_a_sentence() -> None:
    page = b"<html><style>b{}</style><body>\x1b[31mBad\n\n<b>gateway</b>\xe2\x80\xae " + b"x" * 100_000
    async with ScriptedUpstream(body_reply(502, page)) as upstream, client_for(upstream.url) as client:
        message = str(await failure_of(client))
        assert f"answered 502: [31mBad gateway {'x' * 10}" in message
        assert len(message) < 700
        assert message.isprintable()


@pytest.mark.parametrize("reply", [Reply(End.STALL), Reply(b"x" * 100, End.STALL)], ids=["silent", "slow"])
async def test_an_error_whose_body_never_ends_is_timed(reply: Reply) -> None:
    start = head(500, "Content-Length: 1000")
    async with ScriptedUpstream(Reply(start, *reply.steps)) as upstream, client_for(upstream.url) as client:
        with pytest.raises(TimeoutPassedError):
            await body_of(client, timeouts=within(first_token=QUICK))


async def test_an_error_with_a_huge_body_is_read_only_so_far() -> None:
    start = head(500, f"Content-Length: {1 << 30}")
    steps = [b"x" * (1 << 20)] * 64
    async with ScriptedUpstream(Reply(start, *steps)) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert error.kind is K.BACKEND
        await upstream.connections[0].peer_closed()
        assert upstream.connections[0].sent < 32 << 20


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with ScriptedUpstream(OK) as evil:
        reply = body_reply(status, b"", f"Location: {evil.url}/steal?key=1")
        async with ScriptedUpstream(reply) as upstream:
            async with client_for(upstream.url, credentials=key_for(upstream.url)) as client:
                error = await failure_of(client)
                assert error.kind is K.REDIRECT
                assert str(error).endswith(f"answered {status}, a redirect to {evil.url}")
                assert "put the final address in `providers.here.baseUrl`" in error.hint
            assert len(upstream.requests) == 1
        assert evil.connections == []


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/login", "itself"),
        ("", "itself"),
        (None, "itself"),
        ("http://user:secret@h/x", "http://h"),
        ("http://h:x/", "somewhere unreadable"),
    ],
)
async def test_where_a_redirect_leads(location: str | None, shown: str) -> None:
    field = [] if location is None else [f"Location: {location}"]
    async with ScriptedUpstream(body_reply(302, b"", *field)) as upstream, client_for(upstream.url) as client:
        message = str(await failure_of(client))
        assert message.endswith(f"answered 302, a redirect to {shown}")
        assert "secret" not in message


# Bodies that are refused


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, identity", "GZIP"])
async def test_a_compressed_answer_is_refused(encoding: str) -> None:
    reply = body_reply(200, b"\x1f\x8b" + b"\0" * 100, f"Content-Encoding: {encoding}")
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert isinstance(error, BrokenAnswerError)
        assert error.kind is K.PROTOCOL
        assert "compressed its answer" in str(error)
        assert str(error).isprintable()
        assert [request.header("Accept-Encoding") for request in upstream.requests] == ["identity"]


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_an_answer_that_says_it_is_not_compressed(encoding: str) -> None:
    reply = body_reply(200, b"{}", f"Content-Encoding: {encoding}")
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        assert await client.get_json("/x") == {}


async def test_a_compressed_error_is_not_unpacked() -> None:
    reply = body_reply(500, b"\x1f\x8b" + b"\0" * 100, "Content-Encoding: gzip")
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert (error.kind, error.status) == (K.BACKEND, 500)
        assert str(error).endswith("answered 500")


@pytest.mark.parametrize(
    "body",
    [b"<!doctype html><html>Welcome</html>", b"", b"ok", b"{", b'{"a": NaN}', b"{}{}", b"[" * 100_000],
    ids=["page", "nothing", "text", "half", "NaN", "two", "deep"],
)
async def test_a_document_that_is_not_json(body: bytes) -> None:
    async with ScriptedUpstream(body_reply(200, body)) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert isinstance(error, BrokenAnswerError)
        assert error.kind is K.PROTOCOL


@pytest.mark.parametrize("kind", ["local", "openai-compatible", "vllm"])
async def test_a_page_instead_of_a_stream(kind: str) -> None:
    """A wrong address is not reported as an answer that broke off."""
    async with ScriptedUpstream(page_reply(200)) as upstream:
        provider = KINDS[kind](settings_for(upstream.url, kind))
        error = (await ask(provider)).error
        assert isinstance(error, BrokenAnswerError)
        assert error.kind in (K.BAD_CONTENT_TYPE, K.PROTOCOL)
        await provider.aclose()


async def test_a_document_over_the_limit() -> None:
    steps = [chunk(b" " * (1 << 20))] * ((MAX_BODY >> 20) + 16)
    reply = Reply(head(200, "Transfer-Encoding: chunked"), *steps)
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        error = await failure_of(client)
        assert error.kind is K.LIMIT
        assert "32 MiB" in str(error)
        await upstream.connections[0].peer_closed()


async def test_a_stream_over_the_limit() -> None:
    async with (
        ScriptedUpstream(Reply(SSE_HEAD, *[TEXT] * 1000, End.STALL)) as upstream,
        client_for(upstream.url) as client,
    ):
        with pytest.raises(BrokenAnswerError) as caught:
            await body_of(client, limit=10_000)
        assert caught.value.kind is K.LIMIT
        await upstream.connections[0].peer_closed()


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("openai-compatible", [SSE_HEAD, chunk(b"data: "), *[chunk(b"x" * (1 << 19))] * 8]),
        ("openai-compatible", [SSE_HEAD, *[chunk(b"data: " + b"x" * (1 << 19) + b"\n")] * 64]),
        ("openai-compatible", [SSE_HEAD, *[chunk(b"error: " + b"x" * (1 << 19) + b"\n")] * 64]),
        ("openai-compatible", [SSE_HEAD, chunk(b":"), *[chunk(b"x" * (1 << 19))] * 8]),
        ("local", [NDJSON_HEAD, chunk(b'{"a":"'), *[chunk(b"x" * (1 << 20))] * 16]),
    ],
    ids=["line", "event", "error event", "comment", "record"],
)
async def test_a_line_without_end(kind: str, steps: list[Step], no_draining: None) -> None:
    async with ScriptedUpstream(Reply(*steps, End.STALL)) as upstream:
        provider = KINDS[kind](settings_for(upstream.url, kind))
        error = (await ask(provider)).error
        assert isinstance(error, BrokenAnswerError)
        assert error.kind is K.LIMIT
        await upstream.connections[0].peer_closed()
        await provider.aclose()


@pytest.mark.parametrize("kind", ["local", "openai-compatible", "vllm"])
async def test_a_line_of_64_mib_ends_one_request(kind: str) -> None:
    """Read no further than the limit, and the provider answers the next request."""
    part = chunk(b"x" * (1 << 20))
    is_native = kind == "local"
    start = [NDJSON_HEAD, chunk(b'{"message":{"content":"')] if is_native else [SSE_HEAD, chunk(b"data: ")]
    text = chunk(b'{"message":{"content":"a"},"done":true}\n') if is_native else TEXT + STOP
    replies = [
        Reply(*start, *[part] * 64, chunk(b"\n\n"), chunk(b"")),
        Reply(start[0] + text + chunk(b"")),
    ]
    async with ScriptedUpstream(replies) as upstream:
        provider = KINDS[kind](settings_for(upstream.url, kind))
        error = (await ask(provider)).error
        assert isinstance(error, BrokenAnswerError)
        assert error.kind is K.LIMIT
        await upstream.connections[0].peer_closed()
        assert upstream.connections[0].sent < 32 << 20
        assert provider.open_connections == 0
        assert (await ask(provider)).text == "a"
        await provider.aclose()


@pytest.mark.parametrize("kind", ["local", "openai-compatible"])
async def test_an_error_in_a_stream_closes_it(kind: str, no_draining: None) -> None:
    """The server may go on generating for nobody, so nothing of it is waited for."""
    reply = ndjson_reply([{"error": "boom"}]) if kind == "local" else sse_reply([{"error": "boom"}])
    *steps, _last_chunk = reply.steps
    async with ScriptedUpstream(Reply(*steps, End.STALL)) as upstream:
        provider = KINDS[kind](settings_for(upstream.url, kind))
        error = (await ask(provider)).error
        assert isinstance(error, RefusedError)
        await upstream.connections[0].peer_closed()
        await provider.aclose()


# What leaves


async def test_what_a_request_says() -> None:
    async with ScriptedUpstream(sse_reply(["[DONE]"])) as upstream:
        provider = OpenAICompatibleProvider(
            settings_for(upstream.url, credentials=key_for(upstream.url), headers=(("X-Team", "red"),))
        )
        await ask(provider)
        [request] = upstream.requests
        await provider.aclose()
    names = {name.lower() for name, _ in request.headers}
    assert request.path == "/v1/chat/completions"
    assert request.header("Authorization") == "Bearer sk-local-test"
    assert request.header("Content-Type") == "application/json"
    assert request.header("Accept-Encoding") == "identity"
    assert request.header("Host") == f"127.0.0.1:{upstream.port}"
    assert request.header("X-Team") == "red"
    assert not names & {"cookie", "origin", "referer", "x-conversation-id", "x-request-id"}


async def test_a_path_in_the_address_is_kept() -> None:
    async with ScriptedUpstream(OK) as upstream, client_for(f"{upstream.url}/a/b/v1/") as client:
        await client.get_json("/v1/models")
        assert upstream.requests[0].path == "/a/b/v1/models"


@pytest.mark.parametrize(
    "other",
    ["http://127.0.0.1:1", "https://127.0.0.1:{port}", "http://localhost:{port}", "http://127.0.0.2:{port}"],
)
async def test_a_key_goes_to_its_own_origin_alone(other: str) -> None:
    async with ScriptedUpstream(json_reply(401, {"error": "Unauthorized"})) as upstream:
        origin = other.format(port=upstream.port)
        secret = Credentials(origin, SecretStr("sk-1"), (("X-Api-Key", SecretStr("sk-2")),))
        async with client_for(upstream.url, credentials=secret) as client:
            error = await failure_of(client)
        assert f"The configured key belongs to {origin} and was not sent here" in error.hint
        [request] = upstream.requests
        assert not any("sk-" in value for _, value in request.headers)


async def test_secret_headers_go_to_their_origin() -> None:
    async with ScriptedUpstream(json_reply(403, {"error": "no"})) as upstream:
        secret = Credentials(upstream.url, None, (("X-Api-Key", SecretStr("sk-2")),))
        async with client_for(upstream.url, credentials=secret) as client:
            error = await failure_of(client)
            assert error.hint == f"Correct the key in {GET_KEY}."
        assert upstream.requests[0].header("X-Api-Key") == "sk-2"
        assert upstream.requests[0].header("Authorization") is None


async def test_a_key_follows_a_server_that_moves() -> None:
    async with ScriptedUpstream(OK) as first, ScriptedUpstream([OK, OK]) as second:
        async with client_for(first.url, credentials=key_for(first.url, "sk-1")) as client:
            await client.get_json("/x")
            client.moved_to(parse_base_url(second.url), key_for(second.url, "sk-2"))
            await client.get_json("/x")
            client.moved_to(parse_base_url(second.url), key_for(first.url, "sk-1"))
            await client.get_json("/x")
        keys = [request.header("Authorization") for request in first.requests + second.requests]
        assert keys == ["Bearer sk-1", "Bearer sk-2", None]


KEY = 'sk-A1/b+c="e\\d'


@pytest.mark.parametrize(
    "spelled",
    [KEY, json.dumps(KEY)[1:-1], quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()],
    ids=["as it is", "in JSON", "in a URL", "in base64"],
)
@pytest.mark.parametrize("place", ["status text", "status JSON", "nested JSON", "event", "document", "end"])
async def test_a_key_that_comes_back_is_not_shown(place: str, spelled: str) -> None:
    said = f"bad key {spelled}, go away"
    replies: dict[str, Reply] = {
        "status text": body_reply(401, said.encode()),
        "status JSON": json_reply(401, {"error": {"message": said}}),
        "nested JSON": json_reply(500, {"error": json.dumps({"error": {"message": said}})}),
        "event": sse_reply([{"error": {"message": said}}]),
        "document": json_reply(200, {"error": said}),
        "end": json_reply(401, {"error": "x" * 470 + " " + said}),
    }
    async with ScriptedUpstream(replies[place]) as upstream:
        provider = OpenAICompatibleProvider(
            settings_for(
                upstream.url, credentials=Credentials(upstream.url, None, (("X-Key", SecretStr(KEY)),))
            )
            if False
            else settings_for(upstream.url, credentials=key_for(upstream.url, KEY))
        )
        with anyio.fail_after(PATIENCE):
            error = (await ask(provider)).error
        await provider.aclose()
    assert error is not None
    assert "bad key ***" in str(error)
    assert spelled[:12] not in str(error)


@pytest.mark.parametrize("said", ["bad key sk-local-test", "b" * 75 + "sk-local-test"], ids=["whole", "cut"])
async def test_a_key_in_what_is_not_json_is_not_shown(said: str) -> None:
    async with ScriptedUpstream(body_reply(200, said.encode())) as upstream:
        async with client_for(upstream.url, credentials=key_for(upstream.url)) as client:
            message = str(await failure_of(client))
    assert "not JSON" in message
    assert "sk-lo" not in message


async def test_a_secret_header_that_comes_back_is_not_shown() -> None:
    async with ScriptedUpstream(body_reply(401, b"who is team-red-7?")) as upstream:
        secret = Credentials(upstream.url, None, (("X-Api-Key", SecretStr("team-red-7")),))
        async with client_for(upstream.url, credentials=secret) as client:
            assert str(await failure_of(client)).endswith("answered 401: who is ***?")


async def test_a_key_too_short_to_be_one_blots_nothing_out() -> None:
    async with ScriptedUpstream(body_reply(401, b"a bad apple")) as upstream:
        async with client_for(upstream.url, credentials=key_for(upstream.url, "a")) as client:
            assert str(await failure_of(client)).endswith("answered 401: a bad apple")


@pytest.mark.parametrize("length", [40, 200])
async def test_a_key_at_the_cut_is_not_shown_in_part(length: int) -> None:
    """A long text is cut for display, and a key must not survive by being cut in two."""
    key = "sk-" + "Zz9" * length
    said = "x" * 450 + " " + key
    async with ScriptedUpstream(json_reply(401, {"error": said})) as upstream:
        async with client_for(upstream.url, credentials=key_for(upstream.url, key)) as client:
            message = str(await failure_of(client))
    assert "xxx" in message
    assert "sk-Zz9" not in message


async def test_cookies_are_not_kept() -> None:
    reply = json_reply(200, {}, "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Domain=127.0.0.1")
    async with ScriptedUpstream(reply) as upstream, client_for(upstream.url) as client:
        for _ in range(3):
            await client.get_json("/x")
        assert [request.header("Cookie") for request in upstream.requests] == [None] * 3


async def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password sk-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with ScriptedUpstream(OK) as evil, ScriptedUpstream(OK) as upstream:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, evil.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with client_for(upstream.url) as client:
            await client.get_json("/x")
        assert evil.connections == []
        assert upstream.requests[0].header("Authorization") is None


# Proxies that were asked for


async def test_a_proxy_is_used_when_set() -> None:
    async with ScriptedUpstream(OK) as proxy:
        async with client_for("http://model.test:8000", proxy=proxy.url) as client:
            assert await client.get_json("/v1/models") == {"ok": True}
        assert proxy.requests[0].path == "http://model.test:8000/v1/models"
        await proxy.until(lambda: proxy.open_connections == 0)


async def test_a_proxy_that_refuses() -> None:
    async with ScriptedUpstream(body_reply(403, b"")) as proxy:
        async with client_for("https://model.test", proxy=proxy.url) as client:
            error = await failure_of(client)
        assert isinstance(error, UnreachableError)
        assert error.kind is K.PROXY
        assert error.hint == "Check the `proxy` setting."
        assert proxy.requests[0].method == "CONNECT"


async def test_cancelling_behind_a_proxy_closes_the_socket() -> None:
    async with ScriptedUpstream(Reply(SSE_HEAD, TEXT, End.STALL)) as proxy:
        async with client_for("http://model.test", proxy=proxy.url) as client:
            async with client.open_stream("GET", "/x", None, LONG) as stream:
                async for _ in stream.read():
                    break
            await proxy.connections[0].peer_closed()


# No connection, and connections that break


async def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    async with client_for(url, "ollama") as client:
        error = await failure_of(client)
        assert isinstance(error, UnreachableError)
        assert error.kind is K.UNREACHABLE
        assert str(error) == f"Cannot connect to Ollama at {url}: nothing is listening there."
        assert error.hint == "Is the server running? Start it with `ollama serve`."
        await client.connect_ahead()


@pytest.mark.parametrize("host", ["name.invalid", "a" * 64])
async def test_a_name_that_cannot_be_found(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_system = socket.getaddrinfo

    def offline(name: str, *rest: object, **more: object) -> object:
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask_system(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    async with client_for(f"http://{host}") as client:
        error = await failure_of(client)
        assert isinstance(error, UnreachableError)
        assert error.kind is K.DNS
        assert error.hint == "Check the host name in `providers.here.baseUrl`."
        await client.connect_ahead()


@pytest.mark.parametrize(
    ("steps", "kind", "sentence"),
    [
        ([End.CLOSE], K.UNREACHABLE, "closed the connection before it answered"),
        ([End.RESET], K.UNREACHABLE, "closed the connection before it answered"),
        ([b"HTTP/1.1 200 OK\r\n", End.CLOSE], K.UNREACHABLE, "closed the connection before it answered"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n", End.STALL], K.PROTOCOL, "did not answer in HTTP"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000, End.STALL], K.PROTOCOL, "did not answer in HTTP"),
        ([SSE_HEAD, TEXT, End.CLOSE], K.STREAM_TRUNCATED, "cut its answer short"),
        ([SSE_HEAD, TEXT, End.RESET], K.STREAM_TRUNCATED, "cut its answer short"),
        ([SSE_HEAD, TEXT, b"10\r\ndata", End.CLOSE], K.STREAM_TRUNCATED, "cut its answer short"),
        ([SSE_HEAD, TEXT, b"xyz\r\n", End.STALL], K.STREAM_TRUNCATED, "cut its answer short"),
        ([SSE_HEAD, TEXT, chunk(b"")], K.STREAM_TRUNCATED, "broke off"),
    ],
)
async def test_a_connection_that_breaks(steps: list[Step], kind: ErrorKind, sentence: str) -> None:
    async with ScriptedUpstream(Reply(*steps)) as upstream:
        provider = OpenAICompatibleProvider(settings_for(upstream.url))
        answer = await ask(provider)
        assert answer.error is not None
        assert answer.error.kind is kind
        assert sentence in str(answer.error)
        assert answer.error.hint
        assert answer.text == ("a" if TEXT in steps else "")
        await provider.aclose()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


async def test_tls_with_an_authority_of_ones_own(server_tls: ssl.SSLContext, ca_file: str) -> None:
    async with ScriptedUpstream(OK, tls=server_tls) as upstream:
        secret = key_for(upstream.url)
        async with client_for(upstream.url, ca_file=ca_file, credentials=secret) as client:
            assert await client.get_json("/x") == {"ok": True}
        assert upstream.requests[0].header("Authorization") == "Bearer sk-local-test"


@pytest.fixture(scope="module")
def wants_certificate(authority: trustme.CA) -> ssl.SSLContext:
    """A server that talks to clients of the authority alone."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A client's certificate and its key, apart and in one file."""
    issued = authority.issue_cert("somebody@example.org")
    folder = tmp_path_factory.mktemp("client")
    [cert] = issued.cert_chain_pems
    cert.write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    return {name: str(folder / f"{name}.pem") for name in ("cert", "key", "both")}


@pytest.mark.parametrize("files", [("cert", "key"), ("both",)], ids=["apart", "in one file"])
async def test_tls_with_a_client_certificate(
    wants_certificate: ssl.SSLContext, ca_file: str, certificate: dict[str, str], files: tuple[str, ...]
) -> None:
    paths = dict(zip(("client_cert", "client_key"), (certificate[name] for name in files), strict=False))
    async with ScriptedUpstream(OK, tls=wants_certificate) as upstream:
        mine = Credentials(parse_base_url(upstream.url).origin, **paths)  # type: ignore[arg-type]
        async with client_for(upstream.url, ca_file=ca_file, credentials=mine) as client:
            assert await client.get_json("/x") == {"ok": True}


@pytest.mark.parametrize("way", ["none", "of another origin"])
async def test_tls_without_the_client_certificate_it_wants(
    wants_certificate: ssl.SSLContext, ca_file: str, certificate: dict[str, str], way: str
) -> None:
    credentials = None
    if way == "of another origin":
        credentials = Credentials("https://elsewhere.example:443", client_cert=certificate["both"])
    with blocking_tls_server(wants_certificate) as url:
        async with client_for(url, ca_file=ca_file, credentials=credentials) as client:
            error = await failure_of(client)
            assert error.kind is K.TLS
            assert "certificate required" in str(error)
            assert "`providers.here.clientCert`" in error.hint
            assert client.open_connections == 0


@contextmanager
def blocking_tls_server(context: ssl.SSLContext) -> Iterator[str]:
    """One handshake by OpenSSL itself, which says why it fails; asyncio's servers just close."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, peer.dup() as raw:
                with suppress(ssl.SSLError):
                    context.wrap_socket(peer, server_side=True).close()
                # Closed with bytes unread, the socket would take its last words along.
                while raw.recv(1 << 16):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(PATIENCE)


@pytest.mark.parametrize("way", ["missing", "no key", "not a certificate", "another key", "a passphrase"])
async def test_a_client_certificate_that_cannot_be_used(
    authority: trustme.CA, certificate: dict[str, str], tmp_path: Path, way: str
) -> None:
    cert, key = certificate["cert"], certificate["key"]
    match way:
        case "missing":
            cert = str(tmp_path / "none.pem")
        case "no key":
            key = ""
        case "not a certificate":
            cert = str(tmp_path / "text.pem")
            Path(cert).write_text("sk-CANARY")
        case "another key":
            key = str(tmp_path / "other.pem")
            authority.issue_cert("other@example.org").private_key_pem.write_to_path(key)
        case "a passphrase":
            loaded = load_pem_private_key(Path(key).read_bytes(), None)
            key = str(tmp_path / "locked.pem")
            locked = loaded.private_bytes(
                Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x")
            )
            Path(key).write_bytes(locked)
    mine = Credentials("https://127.0.0.1:9", client_cert=cert, client_key=key or None)
    async with client_for("https://127.0.0.1:9", credentials=mine) as client:
        error = await failure_of(client)
    assert isinstance(error, UnreachableError)
    assert error.kind is K.TLS
    assert str(error) == "The client certificate of here cannot be used."
    assert "`providers.here.clientCert`" in error.hint


async def test_tls_that_is_not_verified(server_tls: ssl.SSLContext) -> None:
    async with ScriptedUpstream(OK, tls=server_tls) as upstream:
        async with client_for(upstream.url, verify_tls=False) as client:
            assert await client.get_json("/x") == {"ok": True}


async def test_tls_whose_certificate_is_not_accepted(server_tls: ssl.SSLContext) -> None:
    async with ScriptedUpstream(OK, tls=server_tls) as upstream:
        async with client_for(upstream.url, credentials=key_for(upstream.url)) as client:
            error = await failure_of(client)
        assert isinstance(error, UnreachableError)
        assert error.kind is K.TLS
        assert "its certificate is not accepted (" in str(error)
        assert "`caFile`" in error.hint
        assert upstream.requests == []


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_tls_to_a_server_without_it(end: End) -> None:
    greeting = Reply(head(400, "Content-Length: 0"), end)
    async with ScriptedUpstream(OK, greeting) as upstream:
        async with client_for(upstream.url.replace("http", "https")) as client:
            error = await failure_of(client)
        assert error.kind is K.TLS
        assert "scheme" in error.hint


async def test_http_to_a_server_with_tls(server_tls: ssl.SSLContext) -> None:
    async with ScriptedUpstream(OK, tls=server_tls) as upstream:
        async with client_for(upstream.url.replace("https", "http")) as client:
            error = await failure_of(client)
        assert error.kind in (K.UNREACHABLE, K.PROTOCOL)


# A whole chat


@pytest.mark.parametrize("kind", ["local", "openai-compatible", "vllm"])
async def test_two_chats_share_a_connection(kind: str) -> None:
    def reply(_: Request) -> Reply:
        if kind == "local":
            return ndjson_reply([{"message": {"content": "a"}}, {"done": True, "done_reason": "stop"}])
        return Reply(SSE_HEAD, TEXT, STOP, chunk(b""))

    async with ScriptedUpstream(reply) as upstream:
        provider = KINDS[kind](settings_for(upstream.url, kind))
        for _ in range(2):
            assert (await ask(provider)).text == "a"
            await until_idle(upstream)
        assert len(upstream.connections) == 1
        assert provider.open_connections == 1
        await provider.aclose()
        assert provider.open_connections == 0


async def until_idle(upstream: ScriptedUpstream) -> None:
    """Let the closing bytes arrive, which are on their way."""
    [connection] = upstream.connections
    for _ in range(10):
        await asyncio.sleep(0)
    assert connection.is_open


@pytest.mark.parametrize("kind", ["local", "openai-compatible", "vllm"])
@pytest.mark.parametrize("way", ["cancelled", "left"])
async def test_a_chat_that_ends_early_closes_its_socket(kind: str, way: str) -> None:
    text = chunk(b'{"message":{"content":"a"}}\n') if kind == "local" else TEXT
    async with ScriptedUpstream(Reply(NDJSON_HEAD, text, End.STALL)) as upstream:
        provider = KINDS[kind](settings_for(upstream.url, kind))
        has_begun = anyio.Event()

        async def chat() -> None:
            async with provider.chat_stream(QUESTION) as batches:
                async for _ in batches:
                    has_begun.set()
                    if way == "left":
                        return

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(chat)
                await has_begun.wait()
                if way == "cancelled":
                    tasks.cancel_scope.cancel()
            await upstream.connections[0].peer_closed()
        assert provider.open_connections == 0
        await provider.aclose()


async def test_connecting_ahead() -> None:
    async with ScriptedUpstream(OK) as upstream, client_for(upstream.url) as client:
        await client.connect_ahead()
        assert client.open_connections == 1
        await client.get_json("/x")
        assert len(upstream.connections) == 1
