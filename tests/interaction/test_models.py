"""Models over the wire: looked at, pulled with progress, stopped, loaded and deleted; and servers found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes.captures import LLAMA_CPP, OLLAMA, capture
from tests.fakes.peer import Peer, flags, in_memory
from tests.fakes.upstream import End, Reply, ScriptedUpstream, capture_reply, json_reply, ndjson_reply

pytestmark = pytest.mark.anyio

OLLAMA_LISTS = {"/api/tags": capture_reply(OLLAMA, "tags"), "/api/ps": capture_reply(OLLAMA, "ps")}
# Two files in turn, `completed` left out while it is 0 (docs/api.md of Ollama, v0.33).
PULL: list[dict[str, Any]] = [
    {"status": "pulling manifest"},
    {"status": "pulling aa", "digest": "sha256:aa", "total": 1000},
    {"status": "pulling aa", "digest": "sha256:aa", "total": 1000, "completed": 500},
    {"status": "pulling aa", "digest": "sha256:aa", "total": 1000, "completed": 1000},
    {"status": "pulling bb", "digest": "sha256:bb", "total": 3000, "completed": 1000},
    {"status": "verifying sha256 digest"},
    {"status": "success"},
]


def progress_of(peer: Peer) -> list[dict[str, Any]]:
    return [m["params"]["value"] for m in peer.messages if m.get("method") == "$/progress"]


async def test_a_pull_tells_its_progress_and_everybody_of_its_end(tmp_path: Path) -> None:
    async with ScriptedUpstream(ndjson_reply(PULL)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "local"))
        result = await peer.request("ollm/models/pull", {"model": "qwen", "workDoneToken": "t"})
        assert result == {"provider": "here", "model": "qwen"}
        assert (upstream.requests[0].path, upstream.requests[0].json()) == ("/api/pull", {"model": "qwen"})
        begin, *reports, end = progress_of(peer)
        assert begin == {"kind": "begin", "title": "Downloading qwen", "cancellable": True}
        assert end == {"kind": "end", "message": "Done."}
        assert all(report["kind"] == "report" for report in reports)
        percentages = [report["percentage"] for report in reports if "percentage" in report]
        assert percentages[0] == 0
        assert 50 in percentages  # 2000 of 4000 bytes once the second file is known
        assert any("of 0.0 MB" in report["message"] for report in reports)
        assert await peer.notification("ollm/models/didChange") == {"provider": "here"}


@pytest.mark.parametrize("how", ["request", "token"])
async def test_a_pull_is_stopped_and_the_server_notices(tmp_path: Path, how: str) -> None:
    whole = b"".join(step for step in ndjson_reply(PULL[:3]).steps if isinstance(step, bytes))
    async with (
        ScriptedUpstream(Reply(whole.removesuffix(b"0\r\n\r\n"), End.STALL)) as upstream,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=flags(upstream.url, "local"))
        identifier = peer.ask("ollm/models/pull", {"model": "qwen", "workDoneToken": 7})
        await peer.until(lambda: len(progress_of(peer)) >= 3)
        if how == "request":
            peer.notify("$/cancelRequest", {"id": identifier})
        else:
            peer.notify("window/workDoneProgress/cancel", {"token": 7})
        assert (await peer.answer(identifier))["error"]["code"] == -32800
        await upstream.connections[0].peer_closed()
        assert progress_of(peer)[-1] == {"kind": "end"}
        again = peer.ask("ollm/models/pull", {"model": "qwen", "workDoneToken": 7})
        await peer.until(lambda: [v["kind"] for v in progress_of(peer)].count("begin") == 2)
        peer.notify("$/cancelRequest", {"id": again})
        await peer.answer(again)


async def test_two_pieces_of_work_cannot_have_one_token(tmp_path: Path) -> None:
    async with ScriptedUpstream(Reply(End.STALL)) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "local"))
        first = peer.ask("ollm/models/pull", {"model": "a", "workDoneToken": "t"})
        await upstream.request(0)
        error = await peer.error("ollm/models/pull", {"model": "b", "workDoneToken": "t"})
        assert error["code"] == -32602
        peer.notify("$/cancelRequest", {"id": first})
        await peer.answer(first)


async def test_a_pull_that_fails_under_a_good_status(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(capture_reply(OLLAMA, "pull-offline-stream")) as upstream,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=flags(upstream.url, "local"))
        error = await peer.error("ollm/models/pull", {"model": "x", "workDoneToken": "t"})
        assert "pull model manifest" in error["message"]
        assert progress_of(peer)[-1]["kind"] == "end"


async def test_a_pull_that_breaks_off(tmp_path: Path) -> None:
    async with ScriptedUpstream(ndjson_reply(PULL[:4])) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "local"))
        error = await peer.error("ollm/models/pull", {"model": "x"})
        assert error["data"]["kind"] == "stream_truncated"
        assert "Do it again" in error["data"]["hint"]


async def test_load_and_unload_on_ollama(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(Reply(capture(OLLAMA, "generate-load"))) as upstream,
        in_memory(tmp_path) as peer,
    ):
        await peer.initialize(options=flags(upstream.url, "local", contextLength=8192))
        await peer.request("ollm/models/load", {"model": "smollm2", "keepAlive": "10m"})
        await peer.request("ollm/models/unload", {"model": "smollm2"})
        load, unload = (request.json() for request in upstream.requests)
        # The same window and `shift` as in a chat, or the chat would load the model anew.
        assert load == {
            "model": "smollm2",
            "keep_alive": "10m",
            "shift": False,
            "options": {"num_ctx": 8192},
        }
        assert unload == {"model": "smollm2", "keep_alive": 0}


async def test_a_chat_asks_for_the_same_window_and_warns_before_a_reload(tmp_path: Path) -> None:
    replies = {**OLLAMA_LISTS, "/api/chat": capture_reply(OLLAMA, "chat-stream")}
    async with ScriptedUpstream(replies) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "local", contextLength=8192))
        result = await peer.chat(model="smollm2", streamToken="t")
        sent = next(request.json() for request in upstream.requests if request.path == "/api/chat")
        assert (sent["options"]["num_ctx"], sent["truncate"], sent["shift"]) == (8192, False, False)
        notice = "Ollama loads smollm2 anew: its window changes from 2048 to 8192 tokens."
        assert notice in result["warnings"]
        assert notice in [delta["delta"].get("message") for delta in peer.deltas("t")]


async def test_delete_and_show(tmp_path: Path) -> None:
    empty = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    replies = {**OLLAMA_LISTS, "/api/delete": empty, "/api/show": capture_reply(OLLAMA, "show")}
    async with ScriptedUpstream(replies) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "local"))
        shown = await peer.request("ollm/models/show", {"model": "smollm2"})
        assert shown["model"]["maxContextLength"] == 8192
        assert shown["model"]["contextLength"] == 2048
        assert "insert" in shown["model"]["capabilities"]
        await peer.request("ollm/models/delete", {"model": "smollm2"})
        assert upstream.requests[-1].method == "DELETE"


async def test_what_a_server_cannot_do_is_refused_without_asking_it(tmp_path: Path) -> None:
    async with ScriptedUpstream(json_reply(500, {})) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "vllm"))
        for action, hint in (
            ("pull", "vllm serve MODEL"),
            ("delete", "Delete the file"),
            ("load", "vllm serve"),
        ):
            error = await peer.error(f"ollm/models/{action}", {"model": "x"})
            assert error["data"]["kind"] == "unsupported"
            assert hint in error["data"]["hint"]
        assert upstream.requests == []


async def test_tools_and_images_on_a_model_without_them_are_refused(tmp_path: Path) -> None:
    async with ScriptedUpstream(OLLAMA_LISTS) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "local"))
        tools = [{"name": "f", "parameters": {"type": "object"}}]
        message = {"role": "user", "content": "x"}
        error = await peer.error("ollm/chat", {"messages": [message], "model": "tiny", "tools": tools})
        assert (error["data"]["kind"], error["message"]) == ("unsupported", "tiny cannot call tools.")
        assert "smollm2:latest" in error["data"]["hint"]
        image = {"type": "image", "data": "AAAA", "mediaType": "image/png"}
        pictured = {"role": "user", "content": [image]}
        error = await peer.error("ollm/chat", {"messages": [pictured], "model": "smollm2"})
        assert error["message"] == "smollm2 cannot see images."
        assert {request.path for request in upstream.requests} == {"/api/tags", "/api/ps"}


async def test_tokens_are_counted_by_the_server_or_estimated(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hello there, how are you?"}]
    replies = {"/v1/chat/completions/input_tokens": capture_reply(LLAMA_CPP, "count-tokens")}
    async with ScriptedUpstream(replies) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, backend="llamacpp"))
        exact = await peer.request("ollm/tokens/count", {"messages": messages})
        assert (exact["tokens"], exact["exact"], exact["model"]) == (21, True, "m")
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options=flags("http://127.0.0.1:9"))
        about = await peer.request("ollm/tokens/count", {"messages": messages})
        assert (about["tokens"] >= 8, about["exact"]) == (True, False)


async def test_a_check_tells_what_is_wrong(tmp_path: Path) -> None:
    replies = {"/v1/models": json_reply(401, {"error": "Unauthorized"})}

    def reply(request: Any) -> Reply:
        return replies.get(request.path, json_reply(404, {"detail": "Not Found"}))

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=flags(upstream.url, "vllm"))
        found = await peer.request("ollm/providers/check", {})
        assert (found["state"], found["key"], found["backend"]) == ("locked", "missing", "vLLM")
        assert found["problems"][0]["kind"] == "auth"
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options=flags("http://127.0.0.1:9", "local"))
        found = await peer.request("ollm/providers/check", {"generate": False})
        assert (found["state"], found["problems"][0]["kind"]) == ("unreachable", "unreachable")
        assert "ollama serve" in found["problems"][0]["hint"]


async def test_detection_is_quick_when_nothing_is_there(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize()
        with anyio.fail_after(10):
            servers = (await peer.request("ollm/providers/detect", {}))["servers"]
        assert all(server["baseUrl"].startswith("http://localhost:") for server in servers)
