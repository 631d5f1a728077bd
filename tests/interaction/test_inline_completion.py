"""Text at the cursor over the wire: where it is put, when nobody is asked, and what a client is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes.captures import LLAMA_CPP
from tests.fakes.peer import Peer, in_memory
from tests.fakes.upstream import (
    Connection,
    End,
    Reply,
    Request,
    ScriptedUpstream,
    capture_reply,
    json_reply,
    ndjson_reply,
    sse_reply,
)

pytestmark = pytest.mark.anyio

URI = "file:///work/a.py"
PYTHON = "def add(a, b):\n    return "
NOT_THERE = json_reply(404, {"error": {"code": 404, "message": "File Not Found"}})
Script = Callable[[Request], Reply]


def settings(url: str, model: str = "qwen2.5-coder", **more: Any) -> dict[str, Any]:
    """`initializationOptions` with a llama.cpp server, or another one."""
    kind = more.pop("kind", "openai-compatible")
    backend = more.pop("backend", "llamacpp")
    provider = {"kind": kind, "baseUrl": url, **({"backend": backend} if kind != "local" else {})}
    completion = {"debounceMs": 0, **more.pop("completion", {})}
    layer = {"provider": "here", "model": model, "providers": {"here": provider}, "completion": completion}
    return {"userSettings": {**layer, **more}}


def parts(*texts: str) -> Reply:
    """An answer of `/infill`."""
    records = [{"content": text, "stop": False} for text in texts]
    return sse_reply([*records, {"content": "", "stop": True, "stop_type": "eos"}])


def raw(*texts: str) -> Reply:
    """An answer of `/v1/completions`."""
    records: list[Any] = [{"choices": [{"index": 0, "text": text}]} for text in texts]
    return sse_reply([*records, {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}, "[DONE]"])


def server(*texts: str) -> Script:
    """A llama.cpp server that fills in with the same text each time."""
    return lambda request: parts(*texts) if request.path == "/infill" else NOT_THERE


def asked(upstream: ScriptedUpstream, path: str = "/infill") -> list[Any]:
    """Bodies of what was asked of a route."""
    return [request.json() for request in upstream.requests if request.path == path]


def changes(peer: Peer) -> list[str]:
    """States the client was told."""
    told = [m["params"] for m in peer.messages if m.get("method") == "ollm/completion/didChange"]
    return [params["state"] for params in told]


def open_document(peer: Peer, text: str, uri: str = URI, language: str = "python") -> None:
    document = {"uri": uri, "languageId": language, "version": 1, "text": text}
    peer.notify("textDocument/didOpen", {"textDocument": document})


def change(peer: Peer, text: str, uri: str = URI) -> None:
    """Another whole text."""
    peer.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [{"text": text}]},
    )


def place(line: int, character: int, uri: str = URI, *, kind: int = 2, **context: Any) -> dict[str, Any]:
    """Params of `textDocument/inlineCompletion`."""
    return {
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": character},
        "context": {"triggerKind": kind, **context},
    }


def end_of(text: str, uri: str = URI, **context: Any) -> dict[str, Any]:
    """The place behind an ASCII text."""
    *before, last = text.split("\n")
    return place(len(before), len(last), uri, **context)


async def items_at(peer: Peer, params: Any) -> list[Any]:
    result = await peer.request("textDocument/inlineCompletion", params)
    assert result.keys() == {"items"}
    items: list[Any] = result["items"]
    return items


async def texts_at(peer: Peer, params: Any) -> list[str]:
    return [item["insertText"] for item in await items_at(peer, params)]


# where


LINES = {
    "ASCII": "x = ",
    "emoji": 'x = "😀" + ',
    "combining characters": "e\u0301e\u0301 = ",
    "a family of joined emoji": '"👩\u200d👩\u200d👧" == ',
    "Chinese, and one of the astral planes": "# 中文𠮷 ",
}
UNITS: dict[str, Callable[[str], int]] = {
    "utf-8": lambda text: len(text.encode()),
    "utf-16": lambda text: len(text.encode("utf-16-le")) // 2,
    "utf-32": len,
}


@pytest.mark.parametrize("encoding", UNITS)
@pytest.mark.parametrize("line", LINES)
async def test_a_place_is_counted_in_the_encoding_that_was_agreed_on(
    tmp_path: Path, encoding: str, line: str
) -> None:
    before, behind = LINES[line], " # 😀 behind"
    text = f"# 😀 above\n{before}{behind}\nlast\n"
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        result = await peer.initialize(
            options=settings(upstream.url), capabilities={"general": {"positionEncodings": [encoding]}}
        )
        assert result["capabilities"]["positionEncoding"] == encoding
        open_document(peer, text, language="plaintext")
        character = UNITS[encoding](before)
        [item] = await items_at(peer, place(1, character))
        here = {"line": 1, "character": character}
        assert item["range"] == {"start": here, "end": here}
        assert item["insertText"] == "one"
        [body] = asked(upstream)
        assert (body["input_prefix"], body["input_suffix"]) == (f"# 😀 above\n{before}", f"{behind}\nlast\n")


@pytest.mark.parametrize("encoding", UNITS)
async def test_an_edit_and_a_place_are_counted_alike(tmp_path: Path, encoding: str) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(
            options=settings(upstream.url), capabilities={"general": {"positionEncodings": [encoding]}}
        )
        open_document(peer, 'a = "😀"', language="plaintext")
        at = UNITS[encoding]('a = "😀')
        there = {"line": 0, "character": at}
        edit = {"range": {"start": there, "end": there}, "text": "🙂\u0301"}
        peer.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [edit]},
        )
        assert await texts_at(peer, place(0, at + UNITS[encoding]("🙂\u0301"))) == ["one"]
        assert asked(upstream)[0]["input_prefix"] == 'a = "😀🙂\u0301'


@pytest.mark.parametrize(
    ("position", "prefix"),
    [
        ({"line": 0, "character": 99}, "ab"),
        ({"line": 99, "character": 3}, "ab\ncd"),
        ({"line": 2**31 - 1, "character": 2**31 - 1}, "ab\ncd"),
        ({"line": -1, "character": -1}, ""),
        ({"line": 1, "character": 1.5}, "ab\n"),
        ({"line": True, "character": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
async def test_a_place_out_of_range_is_the_nearest_in_it(tmp_path: Path, position: Any, prefix: str) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, "ab\ncd", language="plaintext")
        await items_at(peer, {**place(0, 0, kind=1), "position": position})
        assert {body["input_prefix"] for body in asked(upstream)} == {prefix}


@pytest.mark.parametrize(("encoding", "characters"), [("utf-16", [3]), ("utf-8", [3, 4, 5])])
async def test_a_place_inside_a_character_is_its_beginning(
    tmp_path: Path, encoding: str, characters: list[int]
) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(
            options=settings(upstream.url), capabilities={"general": {"positionEncodings": [encoding]}}
        )
        open_document(peer, "a 😀 b", language="plaintext")
        for character in characters:
            [item] = await items_at(peer, place(0, character))
            assert item["range"]["start"] == item["range"]["end"] == {"line": 0, "character": 2}
        assert {body["input_prefix"] for body in asked(upstream)} == {"a "}


async def test_lines_of_a_windows_file_end_as_its_own(tmp_path: Path) -> None:
    text = "def f():\r\n    x = '😀'\r\n    "
    async with ScriptedUpstream(server("y = 1\n    return y\n")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, text)
        [item] = await items_at(peer, place(2, 4))
        assert item["insertText"] == "y = 1\r\n    return y"
        assert item["range"]["start"] == {"line": 2, "character": 4}
        assert asked(upstream)[0]["input_prefix"] == text


async def test_it_goes_on_from_the_entry_that_is_chosen_in_the_editors_list(tmp_path: Path) -> None:
    async with ScriptedUpstream(server("(1)")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, '"😀"; pri')
        span = {"start": {"line": 0, "character": 6}, "end": {"line": 0, "character": 9}}
        chosen = {"text": "print", "range": span}
        [item] = await items_at(peer, place(0, 9, selectedCompletionInfo=chosen))
        assert (item["insertText"], item["range"]) == ("print(1)", span)
        assert asked(upstream)[0]["input_prefix"] == '"😀"; print'


@pytest.mark.parametrize("chosen", [None, {}, {"text": 1}, {"text": "x"}, {"text": "x", "range": 5}, []])
async def test_an_odd_entry_is_survived(tmp_path: Path, chosen: Any) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, "a = ")
        assert len(await items_at(peer, place(0, 4, selectedCompletionInfo=chosen))) <= 1


@pytest.mark.parametrize("params", [None, [], {}, {"textDocument": 5}, {"textDocument": {"uri": 5}}])
async def test_params_that_say_nothing_bring_nothing(tmp_path: Path, params: Any) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        assert await items_at(peer, params) == []
        assert upstream.requests == []


# when nobody is asked


async def test_a_document_that_is_not_open_has_nothing(tmp_path: Path) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        assert await items_at(peer, end_of(PYTHON)) == []
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["one"]
        peer.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
        assert await items_at(peer, end_of(PYTHON)) == []
        assert len(asked(upstream)) == 1


async def test_what_holds_secrets_never_reaches_a_server(tmp_path: Path) -> None:
    secret = "PASSWORD = hunter2\nADD_A_B_RETURN = "
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        options = settings(upstream.url, privacy={"exclude": ["**/private/**", "*.local.py"]})
        await peer.initialize(options=options)
        hidden = [
            "/work/.env",
            "/work/.env.local",
            "/work/private/x.py",
            "/work/b.local.py",
            "/home/me/.ssh/a",
        ]
        for path in hidden:
            open_document(peer, secret, f"file://{path}")
            for kind in (1, 2):
                assert await items_at(peer, end_of(secret, f"file://{path}", kind=kind)) == []
        assert asked(upstream) == []
        open_document(peer, PYTHON)
        open_document(peer, "add = return_a_b = 1\n", "file:///work/c.py")
        assert await texts_at(peer, end_of(PYTHON)) == ["one"]
        [body] = asked(upstream)
        assert [extra["text"] for extra in body["input_extra"]] == ["add = return_a_b = 1\n"]
        assert all(b"hunter2" not in request.body for request in upstream.requests)


@pytest.mark.parametrize("text", ["x = 1\n" * 833_334, "GIF89a\0\0\0\n"], ids=["5 MB", "binary"])
async def test_huge_and_binary_documents_have_nothing(tmp_path: Path, text: str) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, text, language="plaintext")
        assert await items_at(peer, place(1, 0, kind=1)) == []
        assert asked(upstream) == []


async def test_a_large_document_is_cut_to_what_is_near(tmp_path: Path) -> None:
    text = "# above\n" * 200_000 + "x = "
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, text + "\n# below" * 200_000)
        assert await texts_at(peer, place(200_000, 4)) == ["one"]
        assert len(upstream.requests[-1].body) < 20_000


async def test_a_minified_line_gets_an_offer_when_it_is_asked_for_alone(tmp_path: Path) -> None:
    text = "a=1;" * 600
    async with ScriptedUpstream(server("b=2")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, text, language="javascript")
        assert await items_at(peer, place(0, len(text))) == []
        assert asked(upstream) == []
        assert await texts_at(peer, place(0, len(text), kind=1)) == ["b=2"]


@pytest.mark.parametrize(
    ("completion", "offered"),
    [
        ({"languages": {"python": False}}, False),
        ({"enabled": False}, False),
        ({"enabled": False, "languages": {"python": True}}, True),
        ({"languages": {"ruby": False}}, True),
    ],
)
async def test_a_language_may_be_off(tmp_path: Path, completion: Any, offered: bool) -> None:
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, completion=completion))
        open_document(peer, PYTHON)
        for kind in (2, 1):
            assert bool(await items_at(peer, end_of(PYTHON, kind=kind))) is offered
        assert bool(asked(upstream)) is offered
        assert changes(peer) == []


async def test_settings_that_change_count_for_the_next_request(tmp_path: Path) -> None:
    async def say(**completion: Any) -> None:
        await peer.request("ollm/config/set", settings(upstream.url, completion=completion))

    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["one"]
        await say(enabled=False)
        assert await texts_at(peer, end_of(PYTHON)) == []
        await say(model="codellama", maxTokens=9)
        assert await texts_at(peer, end_of(PYTHON)) == ["one"]
        assert [body["n_predict"] for body in asked(upstream)] == [64, 9]
        assert await texts_at(peer, end_of(PYTHON)) == ["one"]
        assert len(asked(upstream)) == 2


# one after the other


def asking_for(upstream: ScriptedUpstream, marker: str) -> Connection:
    """The connection on which an answer behind `marker` was asked for last."""
    body = marker.encode() + b'"'
    return next(one for one in upstream.connections if one.requests and body in one.requests[-1].body)


def stalls_at(marker: str, *texts: str) -> Script:
    """A server that begins to answer, and goes on only where `marker` is not in the prefix."""

    def reply(request: Request) -> Reply:
        if request.path != "/infill":
            return NOT_THERE
        if not request.json()["input_prefix"].endswith(marker):
            return parts(*texts)
        return Reply(*parts("begun ").steps[:2], End.STALL)

    return reply


async def test_the_newest_request_counts(tmp_path: Path) -> None:
    text = "first = \nsecond = "
    async with ScriptedUpstream(stalls_at("first = ", "2")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, text)
        first = peer.ask("textDocument/inlineCompletion", place(0, 8))
        await upstream.until(lambda: asked(upstream))
        second = peer.ask("textDocument/inlineCompletion", place(1, 9))
        assert (await peer.answer(first))["result"] == {"items": []}
        assert not any(message.get("id") == second for message in peer.messages)
        await asking_for(upstream, "first = ").peer_closed()
        assert [item["insertText"] for item in (await peer.answer(second))["result"]["items"]] == ["2"]


async def test_a_newer_request_that_asks_nobody_counts_too(tmp_path: Path) -> None:
    async with ScriptedUpstream(stalls_at("first = ", "2")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, "first = \nsecond = ")
        assert await texts_at(peer, place(1, 9)) == ["2"]
        first = peer.ask("textDocument/inlineCompletion", place(0, 8))
        await upstream.until(lambda: len(asked(upstream)) == 2)
        assert await texts_at(peer, place(1, 9)) == ["2"]
        assert (await peer.answer(first))["result"] == {"items": []}
        await asking_for(upstream, "first = ").peer_closed()


async def test_a_document_that_is_closed_stops_its_request(tmp_path: Path) -> None:
    async with ScriptedUpstream(stalls_at("return ")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, PYTHON)
        identifier = peer.ask("textDocument/inlineCompletion", end_of(PYTHON))
        await upstream.until(lambda: asked(upstream))
        peer.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
        assert (await peer.answer(identifier))["result"] == {"items": []}
        await upstream.until(lambda: not upstream.open_connections)


async def test_half_a_character_in_a_document_is_survived(tmp_path: Path) -> None:
    """What editors in JavaScript send while a character of two units is edited by halves."""
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, "a \ud83d = ", language="plaintext")
        await items_at(peer, place(0, 6))
        change(peer, "a 😀 = ")
        assert await texts_at(peer, place(0, 7)) == ["one"]


async def test_documents_do_not_overtake_each_other(tmp_path: Path) -> None:
    gate = anyio.Event()

    def reply(request: Request) -> Reply:
        if request.path != "/infill":
            return NOT_THERE
        return Reply(gate, *parts("one").steps)

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        uris = ["file:///work/b.py", "file:///work/c.py"]
        for uri in uris:
            open_document(peer, PYTHON, uri)
        asking = [peer.ask("textDocument/inlineCompletion", end_of(PYTHON, uri)) for uri in uris]
        await upstream.until(lambda: len(asked(upstream)) == 2)
        gate.set()
        for identifier in asking:
            assert (await peer.answer(identifier))["result"]["items"][0]["insertText"] == "one"


async def test_what_comes_behind_an_offer_is_prepared_on_any_server_that_the_user_wants_it_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollm_daemon.completion.engine.AHEAD_SECONDS", 0.0)

    def reply(request: Request) -> Reply:
        return raw("one") if request.path == "/v1/completions" else NOT_THERE

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        wanted = settings(upstream.url, backend="generic", completion={"ahead": True})
        await peer.initialize(options=wanted)
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["one"]
        await upstream.until(lambda: len(asked(upstream, "/v1/completions")) == 2)
        assert f"{PYTHON}one" in asked(upstream, "/v1/completions")[1]["prompt"]


async def test_an_editor_may_ask_for_its_list_beside(tmp_path: Path) -> None:
    """At each keystroke some editors send both requests; neither is the other's newer one."""
    gate = anyio.Event()

    def reply(request: Request) -> Reply:
        return Reply(gate, *parts("one").steps) if request.path == "/infill" else NOT_THERE

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, completion={"popup": True}))
        open_document(peer, PYTHON)
        inline = peer.ask("textDocument/inlineCompletion", end_of(PYTHON))
        listed = peer.ask("textDocument/completion", end_of(PYTHON))
        await upstream.until(lambda: asked(upstream))
        gate.set()
        assert (await peer.answer(inline))["result"]["items"][0]["insertText"] == "one"
        assert (await peer.answer(listed))["result"]["items"][0]["textEdit"]["newText"] == "one"
        assert len(asked(upstream)) == 1


async def test_of_keys_struck_quickly_only_the_last_is_asked_about(tmp_path: Path) -> None:
    typed = "return value"
    async with ScriptedUpstream(server("one")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, completion={"debounceMs": 30}))
        open_document(peer, "")
        asking = []
        for size in range(1, len(typed) + 1):
            change(peer, typed[:size])
            asking.append(peer.ask("textDocument/inlineCompletion", place(0, size)))
        answers = [(await peer.answer(identifier))["result"]["items"] for identifier in asking]
        assert [len(items) for items in answers] == [0] * (len(typed) - 1) + [1]
        assert [body["input_prefix"] for body in asked(upstream)] == [typed]


async def test_an_offer_that_is_being_typed_is_not_asked_for_again(tmp_path: Path) -> None:
    async with ScriptedUpstream(server("a + b")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["a + b"]
        change(peer, f"{PYTHON}a ")
        assert await texts_at(peer, end_of(f"{PYTHON}a ")) == ["+ b"]
        assert len(asked(upstream)) == 1


@pytest.mark.parametrize("kind", [1, 2])
async def test_a_cancel_closes_the_upstream(tmp_path: Path, kind: int) -> None:
    async with ScriptedUpstream(stalls_at("return ")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, PYTHON)
        identifier = peer.ask("textDocument/inlineCompletion", end_of(PYTHON, kind=kind))
        await upstream.until(lambda: asked(upstream))
        before = anyio.current_time()
        peer.notify("$/cancelRequest", {"id": identifier})
        assert (await peer.answer(identifier))["error"]["code"] == -32800
        await upstream.until(lambda: not upstream.open_connections)
        assert anyio.current_time() - before < 1
        assert changes(peer) == []


async def test_a_client_that_leaves_stops_what_it_asked_for(tmp_path: Path) -> None:
    async with ScriptedUpstream(stalls_at("return ")) as upstream:
        async with in_memory(tmp_path) as peer:
            await peer.initialize(options=settings(upstream.url))
            open_document(peer, PYTHON)
            peer.ask("textDocument/inlineCompletion", end_of(PYTHON))
            await upstream.until(lambda: asked(upstream))
        await upstream.until(lambda: not upstream.open_connections)


async def test_several_candidates_for_who_asks(tmp_path: Path) -> None:
    answers = {None: "a + b", 1: "a + b", 2: "sum((a, b))"}

    def reply(request: Request) -> Reply:
        return parts(answers[request.json().get("seed")]) if request.path == "/infill" else NOT_THERE

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["a + b"]
        assert await texts_at(peer, end_of(PYTHON, kind=1)) == ["a + b", "sum((a, b))"]
        temperatures = [body["temperature"] for body in asked(upstream)]
        assert temperatures[:2] == [0.0, 0.0]
        assert all(temperature > 0 for temperature in temperatures[2:4])


# what goes wrong


async def test_a_server_that_is_down_is_told_of_once_and_so_is_its_return(tmp_path: Path) -> None:
    up = False

    def reply(request: Request) -> Reply:
        if not up:
            return Reply(End.RESET)
        return parts("one") if request.path == "/infill" else NOT_THERE

    async with ScriptedUpstream(reply) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        open_document(peer, PYTHON)
        for _ in range(5):
            assert await items_at(peer, end_of(PYTHON)) == []
        assert changes(peer) == ["unavailable"]
        message = (await peer.notification("ollm/completion/didChange"))["message"]
        assert f"127.0.0.1:{upstream.port}" in message
        requests = len(upstream.requests)
        assert await items_at(peer, end_of(PYTHON)) == []
        assert len(upstream.requests) == requests, "a server that keeps failing is left alone"
        up = True
        assert await texts_at(peer, end_of(PYTHON, kind=1)) == ["one"]
        assert changes(peer) == ["unavailable", "ready"]
        assert "message" not in [m for m in peer.messages if m.get("method", "").endswith("didChange")][-1]


async def test_a_port_nobody_listens_on_is_told_of_once(tmp_path: Path) -> None:
    async with ScriptedUpstream() as gone:
        pass
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(gone.url))
        open_document(peer, PYTHON)
        for _ in range(4):
            assert await items_at(peer, end_of(PYTHON)) == []
        assert changes(peer) == ["unavailable"]
        assert (await peer.request("ollm/status"))["completion"]["failures"] == 3


async def test_a_wrong_provider_is_told_of_once(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as peer:
        options = settings("http://127.0.0.1:9", completion={"provider": "nobody"})
        await peer.initialize(options=options)
        open_document(peer, PYTHON)
        for kind in (2, 1, 2):
            assert await items_at(peer, end_of(PYTHON, kind=kind)) == []
        assert changes(peer) == ["unavailable"]
        assert "nobody" in (await peer.notification("ollm/completion/didChange"))["message"]


def without_infill(request: Request) -> Reply:
    """A llama.cpp server whose model has no marks for infill."""
    if request.path == "/infill":
        return capture_reply(LLAMA_CPP, "infill-unsupported")
    return raw("a", " + b") if request.path == "/v1/completions" else NOT_THERE


async def test_a_model_without_infill_of_a_known_family_gets_a_prompt(tmp_path: Path) -> None:
    async with ScriptedUpstream(without_infill) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        text = f"{PYTHON}\n\nprint(1)\n"
        open_document(peer, text)
        assert await texts_at(peer, place(1, 11)) == ["a + b"]
        [body] = asked(upstream, "/v1/completions")
        prompt = f"<|fim_prefix|>{PYTHON}<|fim_suffix|>\n\nprint(1)\n<|fim_middle|>"
        assert (body["prompt"], body["temperature"]) == (prompt, 0.0)
        assert "<|endoftext|>" in body["stop"]
        change(peer, f"{PYTHON}1 + ")
        assert await texts_at(peer, place(1, 15)) == ["a + b"]
        assert len(asked(upstream)) == 1, "it is known by now"
        assert changes(peer) == []


async def test_a_model_without_infill_of_no_known_family_is_told_of_once(tmp_path: Path) -> None:
    async with ScriptedUpstream(without_infill) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, "llama-3.2-3b"))
        open_document(peer, PYTHON)
        for kind in (2, 2, 1):
            assert await items_at(peer, end_of(PYTHON, kind=kind)) == []
        assert changes(peer) == ["unavailable"]
        message = (await peer.notification("ollm/completion/didChange"))["message"]
        assert "llama-3.2-3b is no code model" in message
        assert "completion.family" in message
        assert asked(upstream, "/v1/completions") == []


async def test_a_family_can_be_named(tmp_path: Path) -> None:
    async with ScriptedUpstream(without_infill) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, "mine", completion={"family": "codellama"}))
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["a + b"]
        assert asked(upstream, "/v1/completions")[0]["prompt"] == f"<PRE> {PYTHON} <SUF> <MID>"


# Ollama


def ollama(*capabilities: str) -> Script:
    """Ollama with one model, which is said to be able to do these."""
    known = {"name": "m:latest", "model": "m:latest", "capabilities": [*capabilities]}

    def reply(request: Request) -> Reply:
        if request.path == "/api/generate":
            records = [{"response": text, "done": False} for text in ("a", " + b")]
            return ndjson_reply([*records, {"response": "", "done": True, "done_reason": "stop"}])
        if request.path == "/api/show":
            return json_reply(200, {"capabilities": [*capabilities]})
        return json_reply(200, {"models": [known] if request.path == "/api/tags" else []})

    return reply


async def test_ollama_gets_the_suffix_of_a_model_that_can_insert(tmp_path: Path) -> None:
    async with ScriptedUpstream(ollama("completion", "insert")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, "m:latest", kind="local"))
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["a + b"]
        [body] = asked(upstream, "/api/generate")
        assert (body["prompt"], body["suffix"], "raw" in body) == (PYTHON, "\n", False)
        assert body["options"]["num_predict"] == 64


async def test_ollama_gets_a_raw_prompt_for_another_model_of_a_known_family(tmp_path: Path) -> None:
    options = {"kind": "local", "completion": {"family": "starcoder2"}}
    async with ScriptedUpstream(ollama("completion")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, "m:latest", **options))
        open_document(peer, PYTHON)
        assert await texts_at(peer, end_of(PYTHON)) == ["a + b"]
        [body] = asked(upstream, "/api/generate")
        assert (body["raw"], "suffix" in body) == (True, False)
        assert body["prompt"] == f"<fim_prefix>{PYTHON}<fim_suffix><fim_middle>"


async def test_ollama_without_either_is_told_of_once(tmp_path: Path) -> None:
    async with ScriptedUpstream(ollama("completion")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, "m:latest", kind="local"))
        open_document(peer, PYTHON)
        for _ in range(3):
            assert await items_at(peer, end_of(PYTHON)) == []
        assert changes(peer) == ["unavailable"]
        assert asked(upstream, "/api/generate") == []


# the editor's own list, and what became of an offer


@pytest.mark.parametrize("popup", [None, False, True])
async def test_the_list_has_an_entry_when_it_is_asked_for_alone(tmp_path: Path, popup: bool | None) -> None:
    completion = {} if popup is None else {"popup": popup}
    async with ScriptedUpstream(server("nt(a)\nprint(b)")) as upstream, in_memory(tmp_path) as peer:
        result = await peer.initialize(options=settings(upstream.url, completion=completion))
        assert ("completionProvider" in result["capabilities"]) is (popup is True)
        open_document(peer, '"😀"; pri')
        answer = await peer.request("textDocument/completion", place(0, 9))
        if not popup:
            assert answer == {"isIncomplete": False, "items": []}
            assert asked(upstream) == []
            return
        [item] = answer["items"]
        span = {"start": {"line": 0, "character": 6}, "end": {"line": 0, "character": 9}}
        assert item["textEdit"] == {"range": span, "newText": "print(a)"}
        assert (item["label"], item["filterText"]) == ("print(a)", "print(a)")
        assert answer["isIncomplete"] is True


async def test_an_offer_that_is_accepted_is_counted(tmp_path: Path) -> None:
    async with ScriptedUpstream(server("a + b")) as upstream, in_memory(tmp_path) as peer:
        result = await peer.initialize(options=settings(upstream.url))
        open_document(peer, PYTHON)
        [item] = await items_at(peer, end_of(PYTHON))
        command = item["command"]
        assert command["command"] in result["capabilities"]["executeCommandProvider"]["commands"]
        call = {"command": command["command"], "arguments": command["arguments"]}
        assert await peer.request("workspace/executeCommand", call) is None
        for event in ("shown", "rejected", "partiallyAccepted", "nonsense"):
            peer.notify("ollm/completion/feedback", {"event": event})
        counted = (await peer.request("ollm/status"))["completion"]
        assert (counted["offered"], counted["accepted"], counted["rejected"]) == (1, 2, 1)
        for odd in ({"command": "rm"}, {}, None):
            assert (await peer.error("workspace/executeCommand", odd))["code"] == -32602


# ollm/infill


async def test_infill_streams_what_the_model_writes_as_it_is(tmp_path: Path) -> None:
    async with ScriptedUpstream(server("```\n", "a + b", "\n```")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        context = [{"path": "b.py", "text": "B = 1\n"}]
        params = {"prefix": PYTHON, "suffix": "\n", "context": context, "streamToken": "i"}
        result = await peer.request("ollm/infill", params)
        assert result["text"] == peer.text("i") == "```\na + b\n```"
        assert (result["provider"], result["finishReason"]) == ("here", "stop")
        [body] = asked(upstream)
        assert (body["input_prefix"], body["input_suffix"]) == (PYTHON, "\n")
        assert body["input_extra"] == [{"filename": "b.py", "text": "B = 1\n"}]


async def test_infill_is_cancelled(tmp_path: Path) -> None:
    async with ScriptedUpstream(stalls_at("return ")) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        identifier = peer.ask("ollm/infill", {"prefix": PYTHON, "streamToken": "i"})
        await peer.until(lambda: peer.text("i"))
        peer.notify("$/cancelRequest", {"id": identifier})
        assert (await peer.answer(identifier))["error"]["code"] == -32800
        await upstream.until(lambda: not upstream.open_connections)


async def test_infill_refuses_for_a_model_without_it(tmp_path: Path) -> None:
    async with ScriptedUpstream(without_infill) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url, "llama-3.2-3b"))
        for _ in range(2):
            error = await peer.error("ollm/infill", {"prefix": PYTHON})
            assert error["data"]["kind"] == "unsupported", json.dumps(error)
        assert len(asked(upstream)) == 1
        assert changes(peer) == []


async def test_infill_falls_back_to_a_prompt(tmp_path: Path) -> None:
    async with ScriptedUpstream(without_infill) as upstream, in_memory(tmp_path) as peer:
        await peer.initialize(options=settings(upstream.url))
        assert (await peer.request("ollm/infill", {"prefix": PYTHON}))["text"] == "a + b"
        assert asked(upstream, "/v1/completions")
