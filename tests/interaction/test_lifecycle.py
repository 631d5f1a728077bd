"""One answer for each request, whatever arrives: the order of a connection's life, and bad messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollm_daemon.server.framing import encode_frame
from tests.fakes.peer import Peer, chat_params, flags, in_memory
from tests.fakes.upstream import End, Reply, ScriptedUpstream

pytestmark = pytest.mark.anyio


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with in_memory(tmp_path) as peer:
        yield peer


def request(identifier: Any, method: str, **rest: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, **rest}


async def is_alive(peer: Peer) -> bool:
    identifier = peer.ask("ollm/status")
    return "result" in await peer.answer(identifier)


async def test_initialize_announces_the_contract(peer: Peer) -> None:
    result = await peer.initialize()
    assert result["capabilities"]["textDocumentSync"]["change"] == 2
    ours = result["capabilities"]["experimental"]["ollm"]
    assert ours["protocolVersion"] == "1.0"
    assert "ollm/chat" in ours["methods"]
    assert result["serverInfo"]["name"] == "ollm-daemon"


async def test_requests_before_initialize_are_refused(peer: Peer) -> None:
    assert (await peer.error("ollm/status"))["code"] == -32002
    await peer.initialize()
    assert await is_alive(peer)


async def test_initialize_is_accepted_once(peer: Peer) -> None:
    await peer.initialize()
    assert (await peer.error("initialize", {"capabilities": {}}))["code"] == -32600


async def test_requests_after_shutdown_are_refused(peer: Peer) -> None:
    await peer.initialize()
    assert await peer.request("shutdown") is None
    assert (await peer.error("ollm/status"))["code"] == -32600
    peer.notify("exit")
    await peer.until(lambda: peer.closed)


async def test_shutdown_cancels_what_runs(peer: Peer) -> None:
    async with ScriptedUpstream(Reply(End.STALL)) as upstream:
        await peer.initialize(options=flags(upstream.url))
        running = peer.ask("ollm/chat", chat_params())
        await upstream.request()
        assert await peer.request("shutdown") is None
        assert (await peer.answer(running))["error"]["code"] == -32800
        await upstream.connections[0].peer_closed()


BAD_BODIES = [
    (b"", -32700),
    (b"{", -32700),
    (b"nonsense", -32700),
    (b"\xff\xfe", -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"ollm/status",}', -32700),
    (b"NaN", -32700),
    (b"[" * 5000 + b"]" * 5000, -32700),
    (b"[]", -32600),
    (b'[{"jsonrpc":"2.0","id":1,"method":"ollm/status"}]', -32600),
    (b"null", -32600),
    (b"1", -32600),
    (b'"text"', -32600),
    (b"{}", -32600),
    (b'{"jsonrpc":"2.0"}', -32600),
    (b'{"jsonrpc":"1.0","method":"exit"}', -32600),
    (b'{"jsonrpc":"2.0","id":null,"method":"ollm/status"}', -32600),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"ollm/status"}', -32600),
    (b'{"jsonrpc":"2.0","id":{},"method":"ollm/status"}', -32600),
    (b'{"jsonrpc":"2.0","id":true,"method":"ollm/status"}', -32600),
    (b'{"jsonrpc":"2.0","method":7}', -32600),
    (b'{"jsonrpc":"2.0","id":[],"result":1,"error":2}', -32600),
]


@pytest.mark.parametrize(("body", "code"), BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_a_bad_message_is_answered_and_the_next_is_served(peer: Peer, body: bytes, code: int) -> None:
    await peer.initialize()
    peer.send_bytes(encode_frame(body))
    assert (await peer.answer(None))["error"]["code"] == code
    assert await is_alive(peer)


BAD_REQUESTS: list[tuple[str, Any, int]] = [
    ("no/such/method", {}, -32601),
    ("__class__", {}, -32601),
    ("$/unknown", {}, -32601),
    ("workspace/executeCommand", {"command": "rm"}, -32602),
    ("ollm/completion/delta", {}, -32601),
    ("ollm/chat", None, -32602),
    ("ollm/chat", [], -32602),
    ("ollm/chat", {"messages": []}, -32602),
    ("ollm/chat", {"messages": "hi"}, -32602),
    ("ollm/chat", chat_params(options={"temperature": "hot"}), -32602),
    ("ollm/chat", chat_params(options={"maxTokens": -1}), -32602),
    ("ollm/chat", chat_params(responseFormat={"type": "poem"}), -32602),
    ("ollm/trust/approve", {}, -32602),
]


@pytest.mark.parametrize(("method", "params", "code"), BAD_REQUESTS)
async def test_a_bad_request_is_answered_under_its_id(
    peer: Peer, method: str, params: Any, code: int
) -> None:
    await peer.initialize()
    error = await peer.error(method, params)
    assert error["code"] == code
    assert await is_alive(peer)


async def test_params_that_look_like_messages_stay_data(peer: Peer) -> None:
    await peer.initialize()
    nested = {"jsonrpc": "2.0", "id": 9, "method": "exit", "params": {"jsonrpc": "2.0", "method": "shutdown"}}
    assert await peer.request("ollm/status", nested)
    assert await is_alive(peer)


async def test_errors_never_repeat_a_value(peer: Peer) -> None:
    await peer.initialize()
    error = await peer.error("ollm/chat", {"messages": "sk-CANARY", "model": ["sk-CANARY"]})
    assert "CANARY" not in json.dumps(error)


async def test_ids_may_be_text_and_are_given_back_as_they_came(peer: Peer) -> None:
    await peer.initialize()
    for identifier in ("a", "", "1", 0, -5, 2**53, "ü\U0001f600", 'x"\\'):
        peer.ask("ollm/status", identifier=identifier)
        assert "result" in await peer.answer(identifier)


async def test_an_id_in_use_is_refused_and_both_are_answered(peer: Peer) -> None:
    async with ScriptedUpstream(Reply(End.STALL)) as upstream:
        await peer.initialize(options=flags(upstream.url))
        peer.send(request("x", "ollm/chat", params=chat_params()), request("x", "ollm/status"))
        assert (await peer.answer("x"))["error"]["code"] == -32600
        await upstream.request()
        peer.notify("$/cancelRequest", {"id": "x"})
        await peer.until(lambda: sum(m.get("id") == "x" for m in peer.messages) == 2)


async def test_a_cancel_in_the_same_write_as_its_request(peer: Peer) -> None:
    async with ScriptedUpstream(Reply(End.STALL)) as upstream:
        await peer.initialize(options=flags(upstream.url))
        peer.send(
            request(7, "ollm/chat", params=chat_params()),
            {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 7}},
        )
        assert (await peer.answer(7))["error"]["code"] == -32800
        stray: list[Any] = [None, {}, {"id": 99}, {"id": None}, {"id": [1]}, [7]]
        for params in stray:
            peer.notify("$/cancelRequest", params)
        assert await is_alive(peer)


async def test_notifications_are_never_answered(peer: Peer) -> None:
    await peer.initialize()
    before = len(peer.messages)
    for method in (
        "no/such",
        "$/setTrace",
        "textDocument/didOpen",
        "ollm/chat",
        "workspace/didChangeConfiguration",
    ):
        nonsense: list[Any] = [None, {}, {"textDocument": 5}, []]
        for params in nonsense:
            peer.notify(method, params)
    assert await is_alive(peer)
    assert len(peer.messages) == before + 1


async def test_documents_follow_the_client(peer: Peer) -> None:
    await peer.initialize()
    uri = "file:///a.py"
    peer.notify(
        "textDocument/didOpen",
        {"textDocument": {"uri": uri, "languageId": "python", "version": 1, "text": "a\n"}},
    )
    change = {
        "range": {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 1}},
        "text": "b",
    }
    peer.notify(
        "textDocument/didChange", {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [change]}
    )
    peer.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": "file:///never", "version": 2}, "contentChanges": [change]},
    )
    peer.notify("textDocument/didClose", {"textDocument": {"uri": "file:///never"}})
    assert await is_alive(peer)


BAD_HEADERS = [
    b"Content-Length: x\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: +5\r\n\r\n",
    b"Content-Length: 99999999999999999999\r\n\r\n",
    b"Content-Length: 1099511627776\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"Content-Length : 5\r\n\r\n",
    b"Content-Type: x\r\n\r\n",
    b"\r\n\r\n",
    b"Content-Length: 5\n\n",
    b"Content-Length: 2\r\nContent-Type: application/json; charset=latin-1\r\n\r\n{}",
    b"X" * 20_000,
    b"".join(b"X-%d: y\r\n" % number for number in range(100)) + b"\r\n",
]


@pytest.mark.parametrize("data", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
async def test_a_bad_header_is_answered_and_ends_the_connection(peer: Peer, data: bytes) -> None:
    await peer.initialize()
    peer.send_bytes(data)
    assert (await peer.answer(None))["error"]["code"] == -32700
    await peer.until(lambda: peer.closed)


GOOD_HEADERS = [
    b"content-length: %d\r\n\r\n",
    b"CONTENT-LENGTH:%d\r\n\r\n",
    b"Content-Length: \t %d \r\n\r\n",
    b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: %d\r\n\r\n",
    b"Content-Length: %d\r\nContent-Type: application/vscode-jsonrpc; charset=UTF8\r\n\r\n",
    b"Content-Length: %d\r\nX-Something: else\r\n\r\n",
]


@pytest.mark.parametrize("header", GOOD_HEADERS)
async def test_headers_are_read_in_any_case_and_order(peer: Peer, header: bytes) -> None:
    await peer.initialize()
    body = json.dumps(request("odd", "ollm/status")).encode()
    peer.send_bytes(header % len(body) + body)
    assert "result" in await peer.answer("odd")


async def test_a_frame_may_arrive_byte_by_byte(peer: Peer) -> None:
    await peer.initialize()
    for byte in encode_frame(json.dumps(request("slow", "ollm/status")).encode()):
        peer.send_bytes(bytes([byte]))
    assert "result" in await peer.answer("slow")


async def test_messages_before_a_bad_header_are_answered(peer: Peer) -> None:
    await peer.initialize()
    body = json.dumps(request("last", "ollm/status")).encode()
    peer.send_bytes(encode_frame(body) + b"garbage\r\n\r\n")
    assert await peer.answer("last")
    await peer.until(lambda: peer.closed)


async def test_too_many_requests_are_refused_one_by_one(peer: Peer) -> None:
    async with ScriptedUpstream(Reply(End.STALL)) as upstream:
        await peer.initialize(options=flags(upstream.url))
        ids = [peer.ask("ollm/chat", chat_params()) for _ in range(330)]
        refused = [(await peer.answer(identifier))["error"] for identifier in ids[320:]]
        assert {error["data"]["kind"] for error in refused} == {"limit"}
        await upstream.until(lambda: len(upstream.requests) == 64)
        for identifier in ids[:320]:
            peer.notify("$/cancelRequest", {"id": identifier})
        for identifier in ids[:320]:
            assert (await peer.answer(identifier))["error"]["code"] == -32800
        assert await is_alive(peer)
        with anyio.fail_after(5):
            await upstream.until(lambda: upstream.open_connections == 0)
