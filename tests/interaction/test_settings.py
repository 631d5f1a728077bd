"""Settings of a connection: who says what, who is asked, and what a repository cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollm_daemon.server import configuration
from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import Peer, chat_params, in_memory
from tests.fakes.upstream import Reply, ScriptedUpstream

pytestmark = pytest.mark.anyio

ANSWER = Reply(capture(OLLAMA, "chat-stream"))
CAN_PULL = {"workspace": {"configuration": True}}
CAN_ASK: dict[str, Any] = {"window": {"showMessage": {"messageActionItem": {}}}}
KEY = "sk-CANARY-0123456789"


def write_user_file(home: Path, text: str) -> Path:
    return write(home / ".ollm" / "config.yaml", text)


def write_workspace_file(home: Path, text: str) -> Path:
    folder = home / "repository"
    write(folder / ".ollm" / "config.yaml", text)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


async def effective(peer: Peer) -> dict[str, tuple[Any, str]]:
    """Each setting's value and the layer it came from."""
    result = await peer.request("ollm/config/get")
    return {s["key"]: (s["value"], s["origin"]["layer"]) for s in result["settings"]}


async def test_every_layer_has_its_say_and_is_named(tmp_path: Path) -> None:
    write_user_file(tmp_path, "provider: vllm\nmodel: from-user\noptions:\n  topK: 1\n  temperature: 0.1\n")
    folder = write_workspace_file(tmp_path, "model: from-workspace\noptions:\n  temperature: 0.2\n")
    environment = {"OLLAMA_HOST": "0.0.0.0:9999"}
    async with in_memory(tmp_path, environment) as peer:
        options = {
            "userSettings": {"options": {"seed": 3}},
            "workspaceSettings": {"model": "from-editor"},
            "flags": {"provider": "local"},
        }
        await peer.initialize(options=options, folder=folder)
        found = await effective(peer)
        assert found["provider"] == ("local", "flags")
        assert found["model"] == ("from-editor", "editor workspace settings")
        assert found["options.temperature"] == (0.2, "workspace file")
        assert found["options.seed"] == (3, "editor user settings")
        assert found["options.topK"] == (1, "user file")
        assert found["providers.local.baseUrl"] == ("http://127.0.0.1:9999", "environment")
        assert found["providers.vllm.baseUrl"] == ("http://localhost:8000", "default")
        origin = next(
            s["origin"]
            for s in (await peer.request("ollm/config/get"))["settings"]
            if s["key"] == "options.temperature"
        )
        assert (Path(origin["source"]).name, origin["line"]) == ("config.yaml", 3)


async def test_settings_are_pulled_from_the_client(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize(capabilities=CAN_PULL)
        asked = peer.ask("ollm/config/get")
        pull = await peer.until(
            lambda: next((m for m in peer.messages if m.get("method") == "workspace/configuration"), None)
        )
        assert pull["params"]["items"] == [{"section": "ollm"}]
        peer.send({"jsonrpc": "2.0", "id": pull["id"], "result": [{"model": "pulled"}]})
        settings = (await peer.answer(asked))["result"]["settings"]
        assert {"pulled"} == {s["value"] for s in settings if s["key"] == "model"}


@pytest.mark.parametrize(
    "answer", [{"result": [None]}, {"result": None}, {"result": []}, {"error": {"code": -1, "message": "no"}}]
)
async def test_a_client_without_settings_is_no_obstacle(tmp_path: Path, answer: Any) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize(capabilities=CAN_PULL)
        asked = peer.ask("ollm/config/get")
        pull = await peer.until(
            lambda: next((m for m in peer.messages if m.get("method") == "workspace/configuration"), None)
        )
        peer.send({"jsonrpc": "2.0", "id": pull["id"], **answer})
        assert "result" in await peer.answer(asked)


async def test_settings_may_be_pushed(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize()
        assert "model" not in await effective(peer)
        peer.notify("workspace/didChangeConfiguration", {"settings": {"ollm": {"model": "pushed"}}})
        assert await peer.notification("ollm/config/didChange") == {"problems": []}
        assert (await effective(peer))["model"] == ("pushed", "editor workspace settings")
        peer.notify("workspace/didChangeConfiguration", {"settings": {"ollm": None}})
        assert "model" not in await effective(peer)


async def test_layers_are_told_apart_by_a_request_of_our_own(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options={"workspaceSettings": {"model": "theirs"}})
        layers = {"userSettings": {"model": "mine", "modle": "x"}, "workspaceSettings": {}}
        [problem] = (await peer.request("ollm/config/set", layers))["problems"]
        assert problem["hint"] == "Did you mean `model`?"
        assert (await effective(peer))["model"] == ("mine", "editor user settings")
        await peer.request("ollm/config/set", {"flags": {"model": "now"}})
        assert (await effective(peer))["model"] == ("now", "flags")
        assert (await peer.error("ollm/config/set", {"flags": []}))["code"] == -32602
        await peer.request("ollm/config/set", {"userSettings": {}, "flags": {}})
        assert "model" not in await effective(peer)


@pytest.mark.parametrize("key", ["flags", "userSettings"])
async def test_pushed_settings_are_the_workspace_s_whatever_keys_they_have(tmp_path: Path, key: str) -> None:
    """Many editors fill them from files of the repository."""
    async with in_memory(tmp_path) as peer:
        await peer.initialize()
        theirs = {"model": "theirs", "providers": {"local": {"baseUrl": "http://evil.invalid:1"}}}
        peer.notify("workspace/didChangeConfiguration", {"settings": {"ollm": {key: theirs}}})
        found = await effective(peer)
        assert "model" not in found
        assert found["providers.local.baseUrl"][1] == "default"
        [problem] = (await peer.request("ollm/config/get"))["problems"]
        assert f"unknown setting `{key}`" in problem["message"]


async def test_settings_that_the_client_removed_are_gone(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        await peer.initialize(capabilities=CAN_PULL)
        await answer_pull(peer, [{"model": "old"}])
        assert (await effective(peer))["model"][0] == "old"
        peer.messages.clear()
        peer.notify("workspace/didChangeConfiguration", {"settings": None})
        await answer_pull(peer, [None])
        assert "model" not in await effective(peer)


async def test_settings_that_come_late_still_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "PULL_SECONDS", 0.05)
    async with in_memory(tmp_path) as peer:
        await peer.initialize(capabilities=CAN_PULL)
        assert "model" not in await effective(peer)
        await answer_pull(peer, [{"model": "late"}])
        assert (await effective(peer))["model"][0] == "late"


async def answer_pull(peer: Peer, result: Any) -> None:
    pull = await peer.until(
        lambda: next((m for m in peer.messages if m.get("method") == "workspace/configuration"), None)
    )
    peer.send({"jsonrpc": "2.0", "id": pull["id"], "result": result})


BROKEN_FILES = [
    ("a: [1", "config.yaml:1: "),
    ("model: x\nmodel: y\n", "config.yaml:2: the key 'model' stands here twice"),
    ("options:\n  temperature: hot\n", "config.yaml:2: `options.temperature`"),
    ("providers:\n  vllm:\n    timeouts:\n      idle: -4\n", "config.yaml:4: `providers.vllm.timeouts.idle`"),
    (
        "providers:\n  vllm:\n    apiKey: ${NOT_SET}\n",
        "config.yaml:3: `providers.vllm.apiKey`: the environment variable NOT_SET is not set",
    ),
    (
        "providers:\n  vllm:\n    baseUrl: gpu-server:8000\n",
        "config.yaml:3: `providers.vllm.baseUrl`: a base URL begins with",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), BROKEN_FILES, ids=range(len(BROKEN_FILES)))
async def test_a_broken_file_is_reported_and_the_daemon_lives(
    tmp_path: Path, text: str, sentence: str
) -> None:
    write_user_file(tmp_path, text)
    async with in_memory(tmp_path) as peer:
        await peer.initialize()
        problems = (await peer.request("ollm/config/get"))["problems"]
        assert [p["severity"] for p in problems] == ["error"]
        shown = await peer.notification("window/showMessage")
        assert shown["type"] == 1
        assert sentence in shown["message"]


async def test_an_unknown_setting_is_a_warning_with_a_suggestion(tmp_path: Path) -> None:
    write_user_file(tmp_path, f"modle: {KEY}\n")
    async with in_memory(tmp_path) as peer:
        await peer.initialize()
        await peer.request("ollm/config/get")
        shown = await peer.notification("window/showMessage")
        assert shown["type"] == 2
        assert "`modle` is ignored. Did you mean `model`?" in shown["message"]
        assert KEY not in json.dumps(peer.messages)


async def test_a_file_that_changes_is_read_again_and_a_broken_one_keeps_the_last_good(tmp_path: Path) -> None:
    path = write_user_file(tmp_path, "model: first\n")
    async with in_memory(tmp_path) as peer:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(peer.daemon.watch_files)
            await peer.initialize()
            assert (await effective(peer))["model"][0] == "first"
            write(path, "model: second, and longer\n")
            assert await peer.notification("ollm/config/didChange") == {"problems": []}
            assert (await effective(peer))["model"][0] == "second, and longer"
            peer.messages.clear()
            write(path, "model: [broken\n")
            [problem] = (await peer.notification("ollm/config/didChange"))["problems"]
            assert problem["severity"] == "error"
            assert (await effective(peer))["model"][0] == "second, and longer"
            task_group.cancel_scope.cancel()


async def test_a_running_generation_keeps_the_settings_it_began_with(tmp_path: Path) -> None:
    gate = anyio.Event()
    first = Reply(gate, capture(OLLAMA, "chat-stream"))
    async with ScriptedUpstream(first) as old, ScriptedUpstream(ANSWER) as new, in_memory(tmp_path) as peer:
        await peer.initialize(options={"flags": local_at(old.url)})
        identifier = peer.ask("ollm/chat", chat_params())
        await old.request()
        await peer.request("ollm/config/set", {"flags": local_at(new.url)})
        await peer.chat()
        gate.set()
        assert "result" in await peer.answer(identifier)
        assert (len(old.requests), len(new.requests)) == (1, 1)


def local_at(url: str, **more: Any) -> dict[str, Any]:
    return {"provider": "local", "model": "m", "providers": {"local": {"baseUrl": url, **more}}}


HOSTILE = [
    "provider: vllm\nproviders:\n  vllm:\n    baseUrl: {evil}\n",
    "providers:\n  vllm:\n    baseUrl: {evil}\n    apiKey: x\n",
    "provider: theirs\nproviders:\n  theirs:\n    kind: vllm\n    baseUrl: {evil}\n    selectable: true\n",
    "providers:\n  vllm:\n    proxy: {evil}\n",
    "providers:\n  vllm:\n    headers:\n      X-Leak: yes\n",
    "trusted: true\nproviders:\n  vllm:\n    baseUrl: {evil}\n",
]


@pytest.mark.parametrize("via", ["file", "editor"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_repository_cannot_move_prompts_or_keys(tmp_path: Path, hostile: str, via: str) -> None:
    """With nobody to ask, what routes traffic is ignored with a warning that names file and key."""
    async with (
        ScriptedUpstream() as evil,
        ScriptedUpstream(Reply(capture("vllm-0.32.0-cpu", "chat-stream"))) as good,
    ):
        write_user_file(
            tmp_path,
            f"provider: vllm\nmodel: m\nproviders:\n  vllm:\n    baseUrl: {good.url}\n    apiKey: {KEY}\n",
        )
        text = hostile.format(evil=evil.url)
        options = None
        folder = write_workspace_file(tmp_path, text if via == "file" else "")
        if via == "editor":
            from ollm_daemon.config._yaml import parse_yaml

            options = {"workspaceSettings": parse_yaml(text).data}
        async with in_memory(tmp_path) as peer:
            await peer.initialize(options=options, folder=folder)
            await peer.chat()
            assert (await peer.error("ollm/chat", chat_params(provider="theirs")))["data"]["kind"] == "config"
            assert evil.connections == []
            assert good.requests[0].header("Authorization") == f"Bearer {KEY}"
            assert good.requests[0].header("X-Leak") is None
            problems = (await peer.request("ollm/config/get"))["problems"]
            approval = [p for p in problems if "until you approve" in p["message"]]
            assert len(approval) == 1
            assert "`providers." in approval[0]["message"]
            assert KEY not in json.dumps(peer.messages)


async def test_the_user_is_asked_once_and_the_approval_holds_for_exactly_this(tmp_path: Path) -> None:
    async with ScriptedUpstream(Reply(capture("vllm-0.32.0-cpu", "chat-stream"))) as theirs:
        text = f"provider: box\nmodel: m\nproviders:\n  box:\n    kind: vllm\n    baseUrl: {theirs.url}\n"
        folder = write_workspace_file(tmp_path, text)
        write_user_file(tmp_path, f"providers:\n  vllm:\n    apiKey: {KEY}\n")
        async with in_memory(tmp_path) as peer:
            await peer.initialize(folder=folder, capabilities=CAN_ASK)
            identifier = peer.ask("ollm/chat", chat_params())
            question = await peer.until(
                lambda: next(
                    (m for m in peer.messages if m.get("method") == "window/showMessageRequest"), None
                )
            )
            assert f"send prompts to {theirs.url}" in question["params"]["message"]
            told = [m["params"]["message"] for m in peer.messages if m.get("method") == "window/showMessage"]
            assert not [text for text in told if "approve" in text], "the question says it"
            assert theirs.connections == []
            peer.send({"jsonrpc": "2.0", "id": question["id"], "result": {"title": "Allow"}})
            assert "result" in await peer.answer(identifier)
            assert theirs.requests[0].header("Authorization") is None
        async with in_memory(tmp_path) as peer:
            await peer.initialize(folder=folder, capabilities=CAN_ASK)
            await peer.chat()
            assert not [m for m in peer.messages if m.get("method") == "window/showMessageRequest"]
        write_workspace_file(tmp_path, text + "    headers:\n      X-More: yes\n")
        async with in_memory(tmp_path) as peer:
            await peer.initialize(folder=folder)
            [pending] = (await peer.request("ollm/trust/get"))["pending"]
            assert pending["values"]["providers.box.headers.X-More"] == "yes"


@pytest.mark.parametrize("answer", [{"title": "Ignore"}, None, {"title": "Allowed"}, "Allow"])
async def test_any_other_answer_is_a_no(tmp_path: Path, answer: Any) -> None:
    async with ScriptedUpstream() as theirs:
        folder = write_workspace_file(tmp_path, f"providers:\n  vllm:\n    baseUrl: {theirs.url}\n")
        async with in_memory(tmp_path) as peer:
            await peer.initialize(folder=folder, capabilities=CAN_ASK)
            asked = peer.ask("ollm/config/get")
            question = await peer.until(
                lambda: next(
                    (m for m in peer.messages if m.get("method") == "window/showMessageRequest"), None
                )
            )
            peer.send({"jsonrpc": "2.0", "id": question["id"], "result": answer})
            settings = (await peer.answer(asked))["result"]["settings"]
            assert theirs.url not in json.dumps(settings)
            await peer.request("ollm/config/get")
            assert sum(m.get("method") == "window/showMessageRequest" for m in peer.messages) == 1


async def test_trust_may_be_given_by_request(tmp_path: Path) -> None:
    async with ScriptedUpstream(Reply(capture("vllm-0.32.0-cpu", "chat-stream"))) as theirs:
        folder = write_workspace_file(
            tmp_path, f"provider: vllm\nmodel: m\nproviders:\n  vllm:\n    baseUrl: {theirs.url}\n"
        )
        async with in_memory(tmp_path) as peer:
            await peer.initialize(folder=folder)
            [pending] = (await peer.request("ollm/trust/get"))["pending"]
            assert not (await peer.request("ollm/trust/approve", {"digest": "0" * 64}))["approved"]
            assert (await peer.request("ollm/trust/approve", {"digest": pending["digest"]}))["approved"]
            assert (await peer.request("ollm/trust/get"))["pending"] == []
            await peer.chat()
            assert len(theirs.requests) == 1


async def test_a_workspace_that_is_not_trusted_is_not_heard_even_if_it_was_approved(tmp_path: Path) -> None:
    theirs = "http://127.0.0.1:9"
    folder = write_workspace_file(tmp_path, f"model: m\nproviders:\n  local:\n    baseUrl: {theirs}\n")

    async def address(peer: Peer) -> str | None:
        settings = (await peer.request("ollm/config/get"))["settings"]
        return next((one["value"] for one in settings if one["key"] == "providers.local.baseUrl"), None)

    async with in_memory(tmp_path) as peer:
        await peer.initialize(folder=folder, capabilities=CAN_ASK, options={"workspaceTrusted": False})
        assert await address(peer) != theirs
        [pending] = (await peer.request("ollm/trust/get"))["pending"]
        assert not (await peer.request("ollm/trust/approve", {"digest": pending["digest"]}))["approved"]
        assert not [m for m in peer.messages if m.get("method") == "window/showMessageRequest"]

        trusting = peer.ask("ollm/config/set", {"workspaceTrusted": True})
        question = await peer.until(
            lambda: next((m for m in peer.messages if m.get("method") == "window/showMessageRequest"), None)
        )
        peer.send({"jsonrpc": "2.0", "id": question["id"], "result": {"title": "Allow"}})
        await peer.answer(trusting)
        assert await address(peer) == theirs
        await peer.request("ollm/config/set", {"workspaceTrusted": False})
        assert await address(peer) != theirs
        assert (await peer.request("ollm/config/get"))["settings"], "what needs no approval still counts"


async def test_a_workspace_may_choose_only_near_or_marked_providers_by_name(tmp_path: Path) -> None:
    remote = "providers:\n  far:\n    kind: vllm\n    baseUrl: http://far.invalid:8000\n"
    folder = write_workspace_file(tmp_path, "provider: far\nmodel: m\n")
    write_user_file(tmp_path, remote)
    async with in_memory(tmp_path) as peer:
        await peer.initialize(folder=folder)
        error = await peer.error("ollm/chat", chat_params())
        assert error["data"]["kind"] == "config"
        assert "ollm trust" in error["data"]["hint"]
    write_user_file(tmp_path, remote + "    selectable: true\n")
    async with in_memory(tmp_path) as peer:
        await peer.initialize(folder=folder)
        assert (await peer.error("ollm/chat", chat_params()))["data"]["kind"] == "dns"


async def test_names_lead_to_providers_and_models(tmp_path: Path) -> None:
    async with ScriptedUpstream(ANSWER) as upstream:
        write_user_file(
            tmp_path,
            f"providers:\n  local:\n    baseUrl: {upstream.url}\n"
            "aliases:\n  fast: local/qwen2.5-coder:1.5b\n  box: ollama\n",
        )
        async with in_memory(tmp_path) as peer:
            await peer.initialize()
            for params in (
                {"model": "fast"},
                {"provider": "box", "model": "x"},
                {"provider": "ollama", "model": "y"},
            ):
                assert (await peer.chat(**params))["provider"] == "local"
            assert [r.json()["model"] for r in upstream.requests] == ["qwen2.5-coder:1.5b", "x", "y"]
            error = await peer.error("ollm/chat", chat_params(provider="olama"))
            assert error["data"] == {"kind": "config", "hint": "Did you mean `ollama`?"} | error["data"]
            aliases = {a["alias"]: a for a in (await peer.request("ollm/providers/list"))["aliases"]}
            assert aliases["fast"]["model"] == "qwen2.5-coder:1.5b"


async def test_dotenv_files_and_proxies_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedUpstream() as evil, ScriptedUpstream(ANSWER) as good:
        folder = write_workspace_file(tmp_path, "model: m\n")
        (folder / ".env").write_text(f"OLLAMA_HOST={evil.url}\nVLLM_HOST={evil.url}\nHTTP_PROXY={evil.url}\n")
        monkeypatch.chdir(folder)
        environment = {
            "OLLAMA_HOST": good.url,
            "HTTP_PROXY": evil.url,
            "http_proxy": evil.url,
            "ALL_PROXY": evil.url,
        }
        async with in_memory(tmp_path, environment) as peer:
            await peer.initialize(folder=folder)
            await peer.chat()
            assert (len(good.requests), evil.connections) == (1, [])
