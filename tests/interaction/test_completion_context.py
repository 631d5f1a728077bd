"""What goes along with a question at the cursor, and what a server is let read before there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollm_daemon.completion import engine as engine_module
from tests.fakes.peer import Peer, flags, in_memory
from tests.fakes.typist import Typist, writing
from tests.fakes.upstream import Request, ScriptedUpstream, json_reply, sse_reply

pytestmark = pytest.mark.anyio

HELPERS = "def parse_header(line):\n    return line.split(':')\n"
OTHER = "def parse_footer(line):\n    return line.split('=')\n"


@pytest.fixture(autouse=True)
def _nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "AHEAD_SECONDS", 60.0)


def extra_of(body: Any) -> list[str]:
    return [file["text"] for file in body["input_extra"]]


async def test_what_goes_along_stays_while_the_user_writes_at_one_place(tmp_path: Path) -> None:
    """Else a server reads the whole prompt anew at every keystroke."""
    async with writing("x()", "y()", "z()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        Typist(peer, "helpers.py", before=HELPERS)
        Typist(peer, "other.py", before=OTHER)
        typist = Typist(peer)
        await typist.offers(typist.types("a = parse_header(line)\nb = "))
        await typist.offers(typist.types("parse_footer(line)\nc = line.split('=')\nparse_footer = "))
        first, second = (extra_of(body) for body in writer.asked)
        assert first == second
        assert sorted(first) == sorted([HELPERS, OTHER])


async def test_what_goes_along_is_chosen_again_in_another_document(tmp_path: Path) -> None:
    async with writing("x()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        await typist.offers(typist.types("a = parse_header(line)\nb = "))
        helpers = Typist(peer, "helpers.py", before=HELPERS)
        await typist.offers(typist.types("1\nparse_header = "))
        helpers.close()
        await typist.offers(typist.types("2\nparse_header = "))
        assert [extra_of(body) for body in writer.asked] == [[], [HELPERS], []]


async def test_a_server_reads_what_goes_along_before_the_user_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "WARM_UP_SECONDS", 0.01)
    async with writing("x()", "", "y()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        helpers = Typist(peer, "helpers.py", before=HELPERS)
        await helpers.offers(helpers.types("a = "))
        typist = Typist(peer, "main.py", before="from helpers import parse_header\n")
        await writer.has_been_asked(2)
        ahead = writer.asked[1]
        assert (ahead["n_predict"], ahead["input_prefix"], ahead["input_suffix"]) == (0, "", "")
        assert await typist.offers(typist.types("a = ")) == ["y()"]
        assert extra_of(writer.asked[2]) == extra_of(ahead) == [HELPERS + "a = "]
        assert peer.daemon.completion_statistics.generations == 2


@pytest.mark.parametrize(
    "completion", [{"enabled": False}, {"exclude": True}], ids=["switched off", "excluded"]
)
async def test_nothing_is_read_ahead_where_nothing_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completion: dict[str, Any]
) -> None:
    monkeypatch.setattr(engine_module, "WARM_UP_SECONDS", 0.0)
    async with writing("x()") as writer, in_memory(tmp_path) as peer:
        options = writer.options(**({"enabled": False} if "enabled" in completion else {}))
        options["flags"]["privacy"] = {"exclude": ["main.py"]}
        await peer.initialize(options=options)
        helpers = Typist(peer, "helpers.py", before=HELPERS)
        await helpers.offers(helpers.types("a = "))
        asked = len(writer.asked)
        typist = Typist(peer, "main.py", before="import helpers\n")
        assert await typist.offers(typist.types("a = ")) == []
        assert len(writer.asked) == asked


def chatting(answer: str) -> Any:
    """A server with a model that only chats."""

    def reply(request: Request) -> Any:
        if request.path != "/v1/chat/completions":
            return json_reply(404, {"error": {"code": 404, "message": "File Not Found"}})
        pieces = [
            {"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in answer.splitlines(True)
        ]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        return sse_reply([*pieces, end, "[DONE]"])

    return reply


async def chat_offers(tmp_path: Path, answer: str, **completion: Any) -> tuple[list[str], list[Any], Peer]:
    async with ScriptedUpstream(chatting(answer)) as upstream, in_memory(tmp_path) as peer:
        options = flags(upstream.url)
        options["flags"]["completion"] = {"debounceMs": 0, **completion}
        await peer.initialize(options=options)
        typist = Typist(peer, behind="\nprint(total)\n")
        offers = await typist.offers(typist.types("total = add("))
        return offers, [request.json() for request in upstream.requests if request.body], peer


async def test_a_model_that_only_chats_writes_when_the_user_allows_it(tmp_path: Path) -> None:
    offers, bodies, _ = await chat_offers(tmp_path, "1, 2)", chat=True)
    assert offers == ["1, 2)"]
    (body,) = bodies
    assert body["messages"][1]["content"].endswith("a.py:\ntotal = add(<cursor/>\nprint(total)\n")
    assert (body["temperature"], body["max_tokens"]) == (0.0, 128)


async def test_without_leave_a_model_that_only_chats_is_not_asked(tmp_path: Path) -> None:
    offers, bodies, peer = await chat_offers(tmp_path, "1, 2)")
    assert (offers, bodies) == ([], [])
    told = await peer.notification("ollm/completion/didChange")
    assert told["state"] == "unavailable"
    assert "`completion.chat: true`" in told["message"]


@pytest.mark.parametrize("answer", ["```python\n1, 2)\n```", "```\n1, 2)\n```\nThis adds the numbers."])
async def test_a_fence_around_a_chats_answer_is_no_part_of_it(tmp_path: Path, answer: str) -> None:
    offers, _, _ = await chat_offers(tmp_path, answer, chat=True)
    assert offers == ["1, 2)"]


async def test_a_client_can_ask_what_the_user_keeps_to_themselves(tmp_path: Path) -> None:
    uris = [f"file:///work/{name}" for name in ("main.py", ".env", "secret/plan.md", "id_rsa")]
    async with in_memory(tmp_path) as peer:
        await peer.initialize(options={"userSettings": {"privacy": {"exclude": ["**/secret/**"]}}})
        answer = await peer.request("ollm/privacy/check", {"uris": uris})
        assert answer == {"excluded": uris[1:]}
        assert (await peer.request("ollm/privacy/check", {"uris": []})) == {"excluded": []}
