"""An editor that has just started: its server is met before the first request, and nobody hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import flags, in_memory
from tests.fakes.upstream import End, Reply, Request, ScriptedUpstream
from tests.interaction.test_settings import write_user_file, write_workspace_file

pytestmark = pytest.mark.anyio

ANSWER = Reply(capture("vllm-0.32.0-cpu", "chat-stream"))


@pytest.fixture(autouse=True)
def _at_once(_nobody_is_met_ahead: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollm_daemon.server.connection.AHEAD_SECONDS", 0.02)


async def test_the_first_request_finds_a_connection_that_is_open(tmp_path: Path) -> None:
    answer = Reply(capture(OLLAMA, "chat-stream"))
    async with ScriptedUpstream(answer) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, kind="local"))
        while not (await peer.request("ollm/status"))["upstreamConnections"]:
            assert upstream.requests == []
        await peer.chat()
        assert len(upstream.connections) == 1


async def test_who_asks_at_once_has_its_own_way_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    async def count(self: object) -> None:
        looked.append(self)

    monkeypatch.setattr("ollm_daemon.providers._http_provider.HttpProvider.connect_ahead", count)
    async with ScriptedUpstream(ANSWER) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, kind="vllm"))
        await peer.chat()
        await anyio.sleep(0.05)
        assert looked == []


async def test_a_server_that_is_down_is_the_first_requests_matter(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options=flags("http://127.0.0.1:9"))
        await anyio.sleep(0.05)
        assert (await peer.request("ollm/status"))["requests"] == 1
        assert [message for message in peer.messages if "id" not in message] == []


async def test_what_a_repository_wants_is_neither_met_nor_asked_for(tmp_path: Path) -> None:
    """Nobody has used the daemon yet: no question, no word of what is wrong, no connection."""
    async with ScriptedUpstream() as theirs, ScriptedUpstream(ANSWER) as ours:
        write_user_file(tmp_path, f"provider: vllm\nmodel: m\nproviders:\n  vllm:\n    baseUrl: {ours.url}\n")
        wanted = f"provider: box\nproviders:\n  box:\n    kind: vllm\n    baseUrl: {theirs.url}\n"
        folder = write_workspace_file(tmp_path, wanted)
        async with in_memory(tmp_path) as peer:
            capabilities: dict[str, Any] = {"window": {"showMessage": {}}}
            await peer.initialize(folder=folder, capabilities=capabilities)
            await ours.until(lambda: ours.connections)
            assert theirs.connections == []
            assert [message for message in peer.messages if "method" in message] == []
            peer.ask("ollm/config/get")
            await peer.until(lambda: any("method" in message for message in peer.messages))


async def test_a_server_that_hangs_up_on_questions_is_soon_asked_no_more(tmp_path: Path) -> None:
    """Who is there is found out by a few questions at most, not anew with every chat."""

    def reply(request: Request) -> Reply:
        return ANSWER if request.path == "/v1/chat/completions" else Reply(End.CLOSE)

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, backend="auto"))
        for _ in range(5):
            await peer.chat()
        asked = [request.path for request in upstream.requests]
        assert asked[-2:] == ["/v1/chat/completions"] * 2
