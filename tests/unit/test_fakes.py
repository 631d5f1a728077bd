"""The scripted server itself, from a synchronous test's side: what it sends, records and reports."""

from __future__ import annotations

import http.client
import socket
import time

import anyio
import pytest

from tests.fakes.captures import OLLAMA, SERVERS, capture, capture_request, cases, split_answer
from tests.fakes.upstream import (
    End,
    Reply,
    Request,
    ScriptedUpstream,
    ThreadedUpstream,
    body_reply,
    capture_reply,
    chunk,
    head,
    json_reply,
    ndjson_reply,
    sse_reply,
)
from tests.growth import assert_linear


def connect(upstream: ThreadedUpstream) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", upstream.upstream.port, timeout=10)


def ask(connection: http.client.HTTPConnection, path: str = "/") -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


def test_one_connection_serves_several_requests() -> None:
    with ScriptedUpstream.in_thread([body_reply(200, b"a"), body_reply(200, b"b").in_pieces(1)]) as upstream:
        connection = connect(upstream)
        assert [ask(connection, "/1"), ask(connection, "/2")] == [b"a", b"b"]
        assert [request.path for request in upstream.requests] == ["/1", "/2"]
        assert len(upstream.connections) == 1
        connection.close()
        assert upstream.peer_closed() <= time.monotonic()
        upstream.until(lambda: upstream.upstream.is_idle)
        assert upstream.upstream.open_connections == 0


def test_a_request_is_recorded() -> None:
    def reply(request: Request) -> Reply:
        return json_reply(200, {"you said": request.json()})

    with ScriptedUpstream.in_thread(reply) as upstream:
        connection = connect(upstream)
        connection.request("POST", "/x?y=1", b'{"a": 1}', {"X-Key": "k"})
        assert connection.getresponse().read() == b'{"you said": {"a": 1}}'
        request = upstream.request()
        assert (request.method, request.path, request.json()) == ("POST", "/x?y=1", {"a": 1})
        assert (request.header("x-key"), request.header("other")) == ("k", None)
        connection.close()


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (sse_reply([{"a": 1}, "[DONE]"]), b'data: {"a": 1}\n\ndata: [DONE]\n\n'),
        (ndjson_reply([{"a": 1}, b"{}"]), b'{"a": 1}\n{}\n'),
        (capture_reply(OLLAMA, "chat-stream"), split_answer(capture(OLLAMA, "chat-stream"))[2]),
        (Reply(head(200, "Transfer-Encoding: chunked"), chunk(b"a"), 0.001, chunk(b"")).in_pieces(3), b"a"),
        (body_reply(200, bytes(1 << 20)).cut_at(1, 1 << 19, 1 << 30), bytes(1 << 20)),
    ],
)
def test_a_reply_that_a_usual_client_understands(reply: Reply, body: bytes) -> None:
    with ScriptedUpstream.in_thread(reply) as upstream:
        connection = connect(upstream)
        assert ask(connection) == body
        connection.close()


def test_an_event_holds_the_script_until_it_is_set() -> None:
    go = anyio.Event()
    with ScriptedUpstream.in_thread(Reply(b"a", go, b"b", End.CLOSE), greeting=Reply(b"hi")) as upstream:
        with socket.create_connection(("127.0.0.1", upstream.upstream.port), timeout=10) as peer:
            assert peer.recv(2) == b"hi"
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert peer.recv(10) == b"a"
            upstream.set(go)
            assert peer.recv(10) == b"b"
            assert peer.recv(10) == b""


@pytest.mark.parametrize(
    ("end", "error"), [(End.CLOSE, None), (End.HALF_CLOSE, None), (End.RESET, ConnectionResetError)]
)
def test_how_a_connection_ends(end: End, error: type[OSError] | None) -> None:
    with ScriptedUpstream.in_thread(Reply(end)) as upstream:
        with socket.create_connection(("127.0.0.1", upstream.upstream.port), timeout=10) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if error:
                with pytest.raises(error):
                    peer.recv(10)
            else:
                assert peer.recv(10) == b""


def test_a_script_that_fails_fails_the_test() -> None:
    def misuse() -> None:
        with ScriptedUpstream.in_thread({"/known": json_reply(200, {})}) as upstream:
            connection = connect(upstream)
            with pytest.raises(http.client.HTTPException):
                ask(connection, "/unknown")
            connection.close()

    with pytest.raises(KeyError):
        misuse()


def test_every_capture_is_whole() -> None:
    for server in SERVERS:
        assert len(cases(server)) > 15
        for case in cases(server):
            status, headers, body = split_answer(capture(server, case))
            assert 200 <= status < 600, case
            is_head = capture_request(server, case).startswith(b"HEAD ")
            if "content-length" in headers and not is_head:
                assert len(body) == int(headers["content-length"]), case


def test_growth_tells_what_is_quadratic() -> None:
    assert_linear(lambda size: sum(range(size)), 400_000)
    with pytest.raises(AssertionError, match="times the size"):
        assert_linear(lambda size: [sum(range(size)) for _ in range(size)], 4_000)
