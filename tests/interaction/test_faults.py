"""What one client, one repository or one file gets wrong costs one action; the others live on."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollm_daemon.daemon import Daemon
from ollm_daemon.server.connection import Connection
from ollm_daemon.server.outbox import Outbox
from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import MemoryTransport, Peer, in_memory, with_daemon
from tests.fakes.upstream import Reply, ScriptedUpstream
from tests.interaction.test_settings import CAN_ASK, write, write_user_file, write_workspace_file

pytestmark = pytest.mark.anyio

OPENED = {"textDocument": {"uri": "file:///x", "languageId": "a", "version": 1, "text": "hi"}}


@asynccontextmanager
async def greeted(home: Path, **params: Any) -> AsyncIterator[Peer]:
    """A client whose `initialize` was answered before the connection began, as on standard streams."""
    daemon = Daemon({"HOME": str(home)})
    outbox = Outbox()
    connection = Connection(daemon, outbox, greeted={"capabilities": {}, **params})
    peer = Peer(connection.receive)
    outbox.attach(MemoryTransport(peer, outbox))
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(connection.run)
        yield peer
        connection.end()
    await daemon.aclose()


ODD_BEGINNINGS: dict[str, dict[str, Any]] = {
    "a URI that is none": {"rootUri": "file://["},
    "a NUL in the folder": {"rootUri": "file:///tmp/%00x"},
    "a folder that is no text": {"workspaceFolders": [{"uri": ["x"]}]},
    "a NUL in the path": {"rootPath": "/tmp/\0x"},
    "a process that cannot be": {"processId": 2**40},
    "capabilities that are none": {"capabilities": 5},
}


@pytest.mark.parametrize("name", ODD_BEGINNINGS)
async def test_an_odd_initialize_ends_nobody(tmp_path: Path, name: str) -> None:
    async with greeted(tmp_path, **ODD_BEGINNINGS[name]) as peer:
        peer.notify("initialized", {})
        assert (await peer.request("ollm/config/get"))["problems"] == []
    async with in_memory(tmp_path) as peer:
        await peer.request("initialize", {"capabilities": {}, **ODD_BEGINNINGS[name]})
        assert (await peer.request("ollm/config/get"))["problems"] == []


async def test_a_wrong_initialization_option_is_told_and_spoils_no_other(tmp_path: Path) -> None:
    options = {"userSettings": {"model": "mine"}, "flags": []}
    async with greeted(tmp_path, initializationOptions=options) as peer:
        config = await peer.request("ollm/config/get")
        assert [s["value"] for s in config["settings"] if s["key"] == "model"] == ["mine"]
        assert [p["message"] for p in config["problems"]] == ["settings must be a mapping of keys."]
        assert (await peer.notification("window/showMessage"))["type"] == 1


async def test_documents_of_a_client_that_names_no_capabilities(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer, with_daemon(peer.daemon) as other:
        await other.initialize()
        await peer.request("initialize", {"processId": None})
        peer.notify("textDocument/didOpen", OPENED)
        change = {"range": {"start": {"line": 9, "character": -1}, "end": 5}, "text": 7}
        peer.notify("textDocument/didChange", {"textDocument": {"uri": 1}, "contentChanges": [change]})
        peer.notify("textDocument/didOpen", OPENED)
        for one in (peer, other):
            assert (await one.request("ollm/status"))["connections"] == 2


async def test_a_link_to_itself_is_no_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / ".ollm").symlink_to(".ollm")
    write_user_file(tmp_path, "model: mine\n")
    async with in_memory(tmp_path) as peer:
        await peer.initialize(folder=folder)
        [problem] = (await peer.request("ollm/config/get"))["problems"]
        assert "leads out of the workspace" in problem["message"]


@pytest.mark.slow
async def test_a_model_file_that_is_missing_is_one_problem_of_one_provider(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    path = write_user_file(tmp_path, "model: a\n")
    async with ScriptedUpstream(Reply(capture(OLLAMA, "chat-stream"))) as upstream:
        async with in_memory(tmp_path, {"OLLAMA_HOST": upstream.url}) as peer:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(peer.daemon.watch_files)
                await peer.initialize()
                await peer.chat()
                write(path, "model: a\nproviders: {embedded: {modelPath: /nope.gguf}}\n")
                [problem] = (await peer.notification("ollm/config/didChange"))["problems"]
                assert "There is no model file /nope.gguf" in problem["message"]
                await peer.chat()
                listed = (await peer.request("ollm/providers/list"))["providers"]
                assert "embedded" not in {provider["name"] for provider in listed}
                peer.messages.clear()
                write(path, "model: another\n")
                assert await peer.notification("ollm/config/didChange") == {"problems": []}
                task_group.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_key_file_and_a_mode_that_change_are_noticed(tmp_path: Path) -> None:
    key = write(tmp_path / "key", "key-old\n")
    path = write_user_file(tmp_path, "")
    async with ScriptedUpstream(Reply(capture("vllm-0.32.0-cpu", "chat-stream"))) as upstream:
        text = (
            f"provider: v\nmodel: m\n"
            f"providers: {{v: {{kind: vllm, baseUrl: '{upstream.url}', apiKeyFile: {key}}}}}\n"
        )
        write(path, text)
        async with in_memory(tmp_path) as peer:
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(peer.daemon.watch_files)
                await peer.initialize()
                await peer.chat()
                write(key, "key-new\n")
                await peer.notification("ollm/config/didChange")
                await peer.chat()
                sent = [request.header("Authorization") for request in upstream.requests]
                assert [sent[0], sent[-1]] == ["Bearer key-old", "Bearer key-new"]
                for mode, problems in ((0o666, 1), (0o600, 0)):
                    peer.messages.clear()
                    path.chmod(mode)
                    told = await peer.notification("ollm/config/didChange")
                    assert len(told["problems"]) == problems
                task_group.cancel_scope.cancel()


# the question


ROUTING = "providers:\n  vllm:\n    baseUrl: {url}\n"


async def question(peer: Peer, number: int = 0) -> Any:
    return await peer.until(
        lambda: dict(
            enumerate(m for m in peer.messages if m.get("method") == "window/showMessageRequest")
        ).get(number)
    )


def answer(peer: Peer, asked: Any, title: str) -> None:
    peer.send({"jsonrpc": "2.0", "id": asked["id"], "result": {"title": title}})


async def test_settings_may_change_while_the_user_is_asked(tmp_path: Path) -> None:
    folder = write_workspace_file(tmp_path, ROUTING.format(url="http://far.invalid:1"))
    async with in_memory(tmp_path) as peer:
        await peer.initialize(folder=folder, capabilities=CAN_ASK)
        waiting = peer.ask("ollm/config/get")
        asked = await question(peer)
        peer.notify("workspace/didChangeConfiguration", {"settings": {"ollm": {"model": "new"}}})
        answer(peer, asked, "Ignore")
        settings = (await peer.answer(waiting))["result"]["settings"]
        assert "new" in {s["value"] for s in settings}
        assert "http://far.invalid:1" not in json.dumps(settings)


async def test_an_answer_counts_though_the_request_was_cancelled(tmp_path: Path) -> None:
    folder = write_workspace_file(tmp_path, ROUTING.format(url="http://far.invalid:1"))
    async with in_memory(tmp_path) as peer:
        await peer.initialize(folder=folder, capabilities=CAN_ASK)
        waiting = peer.ask("ollm/config/get")
        asked = await question(peer)
        peer.notify("$/cancelRequest", {"id": waiting})
        assert (await peer.answer(waiting))["error"]["code"] == -32800
        answer(peer, asked, "Allow")
        assert (await peer.request("ollm/trust/get"))["pending"] == []


@pytest.mark.slow
async def test_a_user_who_does_not_answer_holds_up_nobody_else(tmp_path: Path) -> None:
    folder = write_workspace_file(tmp_path, ROUTING.format(url="http://far.invalid:1"))
    path = write_user_file(tmp_path, "model: one\n")
    async with in_memory(tmp_path) as peer, with_daemon(peer.daemon) as other:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(peer.daemon.watch_files)
            await peer.initialize(folder=folder, capabilities=CAN_ASK)
            await other.initialize()
            await other.request("ollm/config/get")
            peer.ask("ollm/config/get")
            await question(peer)
            for model in ("another", "a third"):
                other.messages.clear()
                write(path, f"model: {model}\n")
                await other.notification("ollm/config/didChange")
                settings = (await other.request("ollm/config/get"))["settings"]
                assert model in {s["value"] for s in settings}
            task_group.cancel_scope.cancel()


async def test_every_question_is_asked_and_shows_what_it_is_about(tmp_path: Path) -> None:
    folder = write_workspace_file(tmp_path, ROUTING.format(url="http://far.invalid:1"))
    async with in_memory(tmp_path) as peer:
        await peer.initialize(folder=folder, capabilities=CAN_ASK)
        waiting = peer.ask("ollm/trust/get")
        first = await question(peer)
        assert "http://far.invalid:1" in first["params"]["message"]
        more = {"providers": {"vllm": {"headers": {"X-Team": "a b"}}}}
        peer.notify("workspace/didChangeConfiguration", {"settings": {"ollm": more}})
        answer(peer, first, "Allow")
        second = await question(peer, 1)
        assert 'vllm.headers.X-Team to "a b"' in second["params"]["message"]
        answer(peer, second, "Allow")
        assert (await peer.answer(waiting))["result"]["pending"] == []


async def test_an_approval_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    folder = write_workspace_file(tmp_path, ROUTING.format(url="http://far.invalid:1"))
    async with in_memory(tmp_path, {"XDG_STATE_HOME": "/proc/nope"}) as peer:
        await peer.initialize(folder=folder, capabilities=CAN_ASK)
        waiting = peer.ask("ollm/config/get")
        answer(peer, await question(peer), "Allow")
        assert "result" in await peer.answer(waiting)
        shown = [m["params"] for m in peer.messages if m.get("method") == "window/showMessage"]
        assert any("approval cannot be kept" in params["message"] for params in shown)
        [pending] = (await peer.request("ollm/trust/get"))["pending"]
        error = await peer.error("ollm/trust/approve", {"digest": pending["digest"]})
        assert error["data"]["kind"] == "config"


# what is not used any more


async def test_providers_that_no_settings_name_are_closed(tmp_path: Path) -> None:
    async with ScriptedUpstream(Reply(capture(OLLAMA, "chat-stream"))) as upstream:
        async with in_memory(tmp_path, {"OLLAMA_HOST": upstream.url}) as peer:
            async with anyio.create_task_group() as task_group:
                await peer.initialize()
                for seconds in range(1, 6):
                    timeouts = {"providers": {"local": {"timeouts": {"total": seconds}}}}
                    await peer.request("ollm/config/set", {"flags": timeouts})
                    await peer.chat(model="m")
                assert upstream.open_connections == 5
                task_group.start_soon(peer.daemon.watch_files)
                await upstream.until(lambda: upstream.open_connections == 1)
                await peer.chat(model="m")
                assert (await peer.request("ollm/status"))["upstreamConnections"] == 1
                task_group.cancel_scope.cancel()


@pytest.mark.real
async def test_a_model_with_other_settings_takes_the_place_of_the_former(tmp_path: Path) -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    before = children()
    async with in_memory(tmp_path) as peer:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(peer.daemon.watch_files)
            await peer.initialize()
            for seconds in (100, 101, 102):
                timeouts = {"providers": {"embedded": {"timeouts": {"total": seconds}}}}
                await peer.request("ollm/config/set", {"flags": {"provider": "embedded", **timeouts}})
                await peer.chat(options={"maxTokens": 1})
            with anyio.fail_after(10):
                while len(children() - before) != 1:
                    await anyio.lowlevel.checkpoint()
            task_group.cancel_scope.cancel()
    assert children() <= before
