"""The daemon on uvloop: asked for by a flag, the same on every way in and out, and never needed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import Process, chat_params, flags, over_stdio
from tests.fakes.upstream import End, Reply, ScriptedUpstream
from tests.interaction.test_tcp import listening

pytest.importorskip("uvloop")
pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WHOLE = capture(OLLAMA, "chat-stream")
BEGUN = WHOLE[: WHOLE.index(b" colour")]


def has_uvloop(process: Process) -> bool:
    return "uvloop" in Path(f"/proc/{process.pid}/maps").read_text()


async def test_standard_streams(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([Reply(WHOLE), Reply(BEGUN, End.STALL)]) as upstream,
        over_stdio(tmp_path, "--uvloop") as process,
    ):
        peer = process.peer
        await peer.initialize(options=flags(upstream.url, "local"))
        result = await peer.chat(streamToken=1)
        assert result["message"]["content"] == peer.text(1) == "The most obvious colour is white"
        assert has_uvloop(process)
        identifier = peer.ask("ollm/chat", chat_params(streamToken=2))
        await peer.until(lambda: peer.text(2))
        peer.notify("$/cancelRequest", {"id": identifier})
        assert (await peer.answer(identifier))["error"]["code"] == -32800
        await upstream.connections[-1].peer_closed()
        await peer.request("shutdown")
        peer.notify("exit")
        assert await process.exit_code() == 0
        assert process.stderr == b""


@pytest.mark.parametrize("ending", ["end of input", "SIGTERM"])
async def test_it_ends_in_mid_stream(tmp_path: Path, ending: str) -> None:
    async with (
        ScriptedUpstream(Reply(BEGUN, End.STALL)) as upstream,
        over_stdio(tmp_path, "--stdio", "--uvloop") as process,
    ):
        await process.peer.initialize(options=flags(upstream.url, "local"))
        process.peer.ask("ollm/chat", chat_params(streamToken=1))
        await process.peer.until(lambda: process.peer.text(1))
        if ending == "SIGTERM":
            process.signal(signal.SIGTERM)
        else:
            assert process.process.stdin
            process.process.stdin.close()
        await process.exit_code()
        await upstream.connections[0].peer_closed()


async def test_several_clients_over_tcp(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(Reply(WHOLE)) as upstream,
        listening(tmp_path, "--uvloop") as daemon,
        daemon.client(upstream.url) as first,
        daemon.client(upstream.url) as second,
    ):
        for peer in (first, second):
            assert (await peer.chat(streamToken=1))["message"]["content"] == peer.text(1)
        assert has_uvloop(daemon.process)
        assert (await first.request("ollm/status"))["connections"] == 2


@pytest.mark.real
async def test_the_embedded_model(tmp_path: Path) -> None:
    async with over_stdio(tmp_path, "--uvloop") as process:
        await process.peer.initialize(options={"flags": {"provider": "embedded"}})
        result = await process.peer.chat("Say hello.", streamToken=1, options={"maxTokens": 4})
        assert result["message"]["content"] == process.peer.text(1)
        assert result["provider"] == "embedded"


async def test_without_it_the_daemon_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError")
    environment = {"PYTHONPATH": str(tmp_path)}
    async with over_stdio(tmp_path, "--tcp", "0", "--uvloop", environment=environment) as process:
        assert await process.exit_code() == 78
        await process.peer.until(lambda: process.stderr.endswith(b"\n"))
        assert b"uvloop is not installed. Install it with" in process.stderr
    async with over_stdio(tmp_path, environment=environment) as process:
        await process.peer.initialize()
        assert await process.peer.request("ollm/status")
