"""When text at the cursor is asked for, who gets it, and what stops: over the wire, with a scripted server.

Order is made with events, never with time; limits that are waits are shortened, and the breaker's clock
is the test's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ollm_daemon.completion import engine as engine_module
from ollm_daemon.completion.asking import CHARACTERS_PER_TOKEN
from ollm_daemon.completion.engine import LEAST_DELAY, MOST_DELAY, CompletionEngine
from ollm_daemon.completion.statistics import CompletionStatistics
from ollm_daemon.domain import CompletionSettings
from tests.fakes.peer import Peer, flags, in_memory
from tests.fakes.typist import COUNT, INFILL, INVOKED, Answer, Typist, Writer, always, infill_reply, writing
from tests.fakes.upstream import End, Reply, json_reply

pytestmark = pytest.mark.anyio

STALLED = Reply(End.STALL)
LONG = "".join(f"value_{number} = {number}\n" for number in range(100))


@pytest.fixture(autouse=True)
def nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is prepared ahead, but where a test wants it."""
    monkeypatch.setattr(engine_module, "AHEAD_SECONDS", 60.0)


def engine_of(peer: Peer) -> CompletionEngine:
    (connection,) = peer.daemon._connections
    assert connection._context
    return connection._context.completion


def statistics_of(peer: Peer) -> CompletionStatistics:
    return peer.daemon.completion_statistics


async def settled(peer: Peer, predicate: Callable[[], object]) -> None:
    """Wait, turn by turn of the loop, until something inside the daemon holds."""
    with anyio.fail_after(peer.patience):
        while not predicate():
            await anyio.lowlevel.checkpoint()


def is_left(peer: Peer) -> Callable[[], bool]:
    engine = engine_of(peer)
    return lambda: not engine._flights and not engine._newest


# A storm


async def test_of_thirty_requests_in_a_second_the_last_is_asked_and_all_are_answered(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with writing(STALLED) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options(debounceMs=None))
        typist = Typist(peer)
        ids = []
        for number in range(30):
            ids.append(typist.types(f"x{number} ="))
            await anyio.sleep(1 / 30)  # how fast the user types
            if number:
                assert await typist.offers(ids[-2]) == []  # at once: nothing has been written yet
        await writer.has_been_asked(1)
        cancelled_at = loop.time()
        typist.cancel(ids[-1])
        await writer.upstream.until(lambda: not any(is_busy(one) for one in writer.upstream.connections))
        assert loop.time() - cancelled_at < 0.1
        assert (await peer.answer(ids[-1]))["error"]["code"] == -32800
        assert len(writer.asked) <= 3
        assert [len(typist.answers(identifier)) for identifier in ids] == [1] * 30
        assert statistics_of(peer).superseded == 29
        await settled(peer, is_left(peer))


def is_busy(connection: Any) -> bool:
    """Whether a connection carries an answer that is not over; none is, in the tests that ask."""
    return connection.is_open and any(request.path == INFILL for request in connection.requests)


async def test_thirty_requests_at_once_are_one_question(tmp_path: Path) -> None:
    async with writing("done") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options(debounceMs=None))
        typist = Typist(peer)
        ids = [typist.types(letter) for letter in "abcdefghijklmnopqrstuvwxyzabc ="]
        assert await typist.offers(ids[-1]) == ["done"]
        assert [await typist.offers(identifier) for identifier in ids[:-1]] == [[]] * 30
        assert [body["input_prefix"] for body in writer.asked] == ["abcdefghijklmnopqrstuvwxyzabc ="]


async def test_an_older_request_is_not_held_up_by_a_newer_one_that_waits_for_the_same(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with writing(["print(", gate, "x)"]) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        first = typist.types("a = ")
        await writer.has_been_asked(1)
        second = typist.types("pr")
        assert await typist.offers(first) == []
        assert not typist.answers(second)
        gate.set()
        assert await typist.offers(second) == ["int(x)"]
        assert len(writer.asked) == 1
        assert statistics_of(peer).joined == 1


async def test_what_the_model_writes_and_the_user_does_not_is_stopped_and_asked_anew(tmp_path: Path) -> None:
    gate = anyio.Event()
    answers: list[Answer] = [[gate, "print(", anyio.Event()], "len(x)", "set(x)"]
    async with writing(*answers) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        typist.types("a = ")
        await writer.has_been_asked(1)
        second = typist.types("l")  # gets on, as nothing has been written yet
        await settled(peer, lambda: statistics_of(peer).joined)
        gate.set()
        await writer.connection(0).peer_closed()
        assert await typist.offers(second) == ["len(x)"]
        assert [body["input_prefix"] for body in writer.asked] == ["a = ", "a = l"]
        typist.change(take=1)
        assert await typist.offers(typist.asks()) == ["set(x)"]  # the half answer is not kept


async def test_an_answer_that_is_all_typed_by_its_end_is_followed_by_another(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with writing(["x", gate], " + 1") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        typist.types("a = ")
        await writer.has_been_asked(1)
        second = typist.types("x")
        await settled(peer, lambda: statistics_of(peer).joined)
        gate.set()
        assert await typist.offers(second) == [" + 1"]


async def test_white_space_that_is_cut_off_an_answer_does_not_part_it_from_what_is_typed(
    tmp_path: Path,
) -> None:
    gate = anyio.Event()
    async with writing(["    return x", gate]) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options(maxLines=1))
        typist = Typist(peer, before="def f(x):\n    ")
        typist.asks()
        await writer.has_been_asked(1)
        second = typist.types("ret")
        await settled(peer, lambda: statistics_of(peer).joined)
        gate.set()
        assert await typist.offers(second) == ["urn x"]
        assert len(writer.asked) == 1


async def test_an_empty_line_in_a_block_is_part_of_it(tmp_path: Path) -> None:
    answer = "const a = 1;\n\n  return a;\n}\n"
    async with writing(answer) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer, "a.js", before="function f() {\n", behind="\n}\n", language="javascript")
        assert await typist.offers(typist.types("  ")) == ["const a = 1;\n\n  return a;"]


# What is known already


async def test_what_is_typed_through_or_taken_back_is_not_asked_for(tmp_path: Path) -> None:
    async with writing("print(x)") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer, behind="\nb = 1\n")
        assert await typist.offers(typist.types("a = ")) == ["print(x)"]
        left = "print(x)"
        for letter in "print":
            left = left[1:]
            assert await typist.offers(typist.types(letter)) == [left]
        typist.change(take=3)
        assert await typist.offers(typist.asks()) == ["int(x)"]
        typist.change(take=2)
        assert await typist.offers(typist.asks()) == ["print(x)"]
        assert len(writer.asked) == 1
        assert statistics_of(peer).cache_hits == 7


async def test_the_same_words_after_a_change_above_are_another_question(tmp_path: Path) -> None:
    async with writing("one()", "two()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer, before="x = 1\n")
        assert await typist.offers(typist.types("a = ")) == ["one()"]
        typist.change("y = 2222\na = ", take=10)
        assert await typist.offers(typist.asks()) == ["two()"]
        assert len(writer.asked) == 2


async def test_a_user_who_asks_gets_several_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    async with writing("one()", "two()", "one()", "never") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer, before="x = 1")
        first = typist.types("\n", trigger=INVOKED)
        assert await typist.offers(first) == ["one()", "two()"]  # the third was no other
        assert await typist.offers(typist.asks(trigger=INVOKED)) == ["one()", "two()"]
        assert await typist.offers(typist.asks()) == ["one()", "two()"]
        assert await typist.offers(typist.types("t")) == ["wo()"]
        assert [body.get("seed") for body in writer.asked] == [None, 1, 2]


async def test_a_user_who_asks_is_not_put_off_with_the_one_that_is_being_written(tmp_path: Path) -> None:
    async with writing([anyio.Event()], "one()", "two()", "three()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        first = typist.types("a = ")
        await writer.has_been_asked(1)
        second = typist.asks(trigger=INVOKED)
        assert await typist.offers(first) == []
        assert await typist.offers(second) == ["one()", "two()", "three()"]
        await writer.connection(0).peer_closed()


async def test_new_settings_forget_what_was_offered_and_what_is_being_written(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with writing("one()", [gate, "two()"], "three()", "four()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist, other = Typist(peer), Typist(peer, "b.py")
        assert await typist.offers(typist.types("a = ")) == ["one()"]
        pending = other.types("b = ")
        await writer.has_been_asked(2)
        settings = {"ollm": {"completion": {"maxTokens": 100}}}
        peer.notify("workspace/didChangeConfiguration", {"settings": settings})
        await peer.notification("ollm/config/didChange")
        gate.set()
        assert await other.offers(pending) == ["two()"]  # it keeps the settings it began with
        assert await other.offers(other.asks()) == ["three()"]
        assert await typist.offers(typist.asks()) == ["four()"]
        await settled(peer, lambda: not engine_of(peer)._newest)


# Ahead of the user


async def test_what_comes_behind_an_offer_is_there_when_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "AHEAD_SECONDS", 0.01)
    async with writing("one()", " + two()", " + three()", " + four()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        assert await typist.offers(typist.types("a = ")) == ["one()"]
        for number, after in enumerate([" + two()", " + three()"]):
            await writer.has_been_asked(number + 2)
            await settled(peer, is_left(peer))
            hits = statistics_of(peer).cache_hits
            accepted = ("one()", " + two()")[number]
            assert await typist.offers(typist.types(accepted)) == [after]
            assert statistics_of(peer).cache_hits == hits + 1
        assert [body["input_prefix"] for body in writer.asked[:3]] == [
            "a = ",
            "a = one()",
            "a = one() + two()",
        ]


async def test_what_comes_behind_an_offer_is_left_alone_when_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "AHEAD_SECONDS", 0.0)
    async with writing("one()", " + two()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options(ahead=False))
        typist = Typist(peer)
        assert await typist.offers(typist.types("a = ")) == ["one()"]
        assert not engine_of(peer)._flights
        assert await typist.offers(typist.types("one()")) == [" + two()"]
        assert len(writer.asked) == 2


async def test_who_accepts_before_anything_is_prepared_does_not_wait_for_it(tmp_path: Path) -> None:
    async with writing("one()", " + two()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options(debounceMs=5000))
        typist = Typist(peer)
        assert await typist.offers(typist.types("a = ", trigger=INVOKED))
        assert len(writer.asked) == 3
        assert await typist.offers(typist.types("one()")) == [" + two()"]
        assert len(writer.asked) == 4


async def test_who_types_on_elsewhere_stops_what_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "AHEAD_SECONDS", 0.01)
    async with writing("one()", STALLED, "other()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        assert await typist.offers(typist.types("a = ")) == ["one()"]
        await writer.has_been_asked(2)
        assert await typist.offers(typist.types("z")) == ["other()"]
        await writer.connection(1).peer_closed()


# What stops


async def test_a_document_that_is_closed_stops_what_was_asked_for_it(tmp_path: Path) -> None:
    async with writing(STALLED) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        identifier = typist.types("a = ")
        await writer.has_been_asked(1)
        typist.close()
        assert await typist.offers(identifier) == []
        await writer.connection(0).peer_closed()
        await settled(peer, is_left(peer))


async def test_a_document_that_is_closed_in_the_pause_after_a_keystroke_is_not_sent(tmp_path: Path) -> None:
    async with writing("one()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options(debounceMs=5000))
        typist = Typist(peer)
        identifier = typist.types("a = ")
        await settled(peer, lambda: engine_of(peer)._newest)
        typist.close()
        assert await typist.offers(identifier) == []
        assert not writer.asked
        await settled(peer, is_left(peer))


async def test_who_takes_a_request_back_stops_it_and_may_ask_again_at_once(tmp_path: Path) -> None:
    async with writing(STALLED, "two()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        first = typist.types("a = ")
        await writer.has_been_asked(1)
        typist.cancel(first)
        assert (await peer.answer(first))["error"]["code"] == -32800
        second = typist.asks()  # while the first is still being stopped
        assert await typist.offers(second) == ["two()"]
        await writer.connection(0).peer_closed()
        assert len(typist.answers(first)) == 1


async def test_taking_back_one_of_two_leaves_the_other_its_answer(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with writing([gate, "one()"]) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        first = typist.types("a = ")
        await writer.has_been_asked(1)
        second = typist.types("o")
        typist.cancel(first)
        gate.set()
        assert await typist.offers(second) == ["ne()"]
        assert len(writer.asked) == 1


async def test_two_documents_do_not_disturb_each_other(tmp_path: Path) -> None:
    gates = [anyio.Event(), anyio.Event()]
    async with writing([gates[0], "one()"], [gates[1], "two()"]) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        one, two = Typist(peer), Typist(peer, "b.py")
        first = one.types("a = ")
        await writer.has_been_asked(1)
        second = two.types("b = ")
        await writer.has_been_asked(2)
        gates[1].set()
        assert await two.offers(second) == ["two()"]
        assert not one.answers(first)
        gates[0].set()
        assert await one.offers(first) == ["one()"]


async def test_an_answer_that_takes_too_long_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "GENERATION_SECONDS", 0.05)
    async with writing(STALLED, "late()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        assert await typist.offers(typist.types("a = ")) == []
        await writer.connection(0).peer_closed()
        assert (await peer.notification("ollm/completion/didChange"))["state"] == "unavailable"
        assert await typist.offers(typist.asks()) == ["late()"]  # nothing was kept of it


async def test_nothing_is_left_of_documents_that_came_and_went(tmp_path: Path) -> None:
    async with writing("one()") as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        for number in range(50):
            typist = Typist(peer, f"{number}.py")
            first, second = typist.types("a = "), typist.types("b")
            assert await typist.offers(first) == []
            if number % 2:
                assert await typist.offers(second) == ["one()"]
            typist.close()
            await peer.answer(second)
        await settled(peer, is_left(peer))
        assert not engine_of(peer).places.uris


# The server


async def test_counting_tokens_keeps_nobody_waiting(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with writing("one()") as writer, in_memory(tmp_path) as peer:
        counted = json_reply(200, {"input_tokens": 1000})
        writer.count = Reply(gate, *counted.steps)
        await peer.initialize(options=writer.options())
        typist = Typist(peer, before=LONG)
        assert await typist.offers(typist.types("a = ")) == ["one()"]
        await writer.upstream.until(lambda: writer.paths(COUNT))
        assert engine_of(peer)._writer._ratios == {"m": CHARACTERS_PER_TOKEN}
        gate.set()
        await settled(
            peer, lambda: engine_of(peer)._writer._ratios["m"] == pytest.approx(len(LONG + "a = ") / 1000)
        )
        typist.change("b")
        await typist.offers(typist.asks())
        assert writer.paths(COUNT) == 1


async def test_a_model_that_nobody_named_is_looked_up_once(tmp_path: Path) -> None:
    async with writing(*always(lambda: "one()")) as writer, in_memory(tmp_path) as peer:
        options = flags(writer.upstream.url, backend="llamacpp")
        del options["flags"]["model"]
        options["flags"]["completion"] = {"debounceMs": 0}
        await peer.initialize(options=options)
        typist = Typist(peer)
        for letter in "abcdefgh":
            assert await typist.offers(typist.types(letter)) == ["one()"]
        assert len(writer.asked) == 8
        # Once to choose the model, once for its window.
        assert writer.paths("/v1/models") <= 2


class Clock:
    """Time as the engine sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(engine_module, "time", SimpleNamespace(monotonic=lambda: self.now))


async def test_a_server_that_keeps_failing_is_left_alone_and_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    failure = json_reply(500, {"error": {"code": 500, "message": "out of memory", "type": "server_error"}})
    answers = [failure, failure, failure, infill_reply("one()")]
    async with writing(*answers) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        for letter in "abc":
            assert await typist.offers(typist.types(letter)) == []
            clock.now += 1
        assert len(writer.asked) == 3
        for letter in "defg":
            assert await typist.offers(typist.types(letter)) == []
            clock.now += 1
        assert len(writer.asked) == 3
        states = [m["params"] for m in peer.messages if m.get("method") == "ollm/completion/didChange"]
        assert [state["state"] for state in states] == ["unavailable"]
        clock.now += 5
        assert await typist.offers(typist.types("h")) == ["one()"]
        states = [m["params"] for m in peer.messages if m.get("method") == "ollm/completion/didChange"]
        assert [state["state"] for state in states] == ["unavailable", "ready"]


async def test_failures_far_apart_do_not_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    failure = json_reply(500, {"error": {"code": 500, "message": "out of memory", "type": "server_error"}})
    async with writing(*always(lambda: failure)) as writer, in_memory(tmp_path) as peer:
        await peer.initialize(options=writer.options())
        typist = Typist(peer)
        for letter in "abcde":
            assert await typist.offers(typist.types(letter)) == []
            clock.now += 6
        assert len(writer.asked) == 5


async def test_a_server_that_is_not_there_is_not_looked_for_at_every_keystroke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    writer = Writer()
    writer.upstream.replies = json_reply(404, {})
    async with writer.upstream, in_memory(tmp_path) as peer:
        options = flags(writer.upstream.url, backend="llamacpp")
        del options["flags"]["model"]
        await peer.initialize(options=options)
        typist = Typist(peer)
        for letter in "abcdefgh":
            typist.change(letter)
            clock.now += 2 if letter == "c" else 0.5
            assert await typist.offers(typist.asks()) == []
        assert writer.paths("/v1/models") <= 3
        states = [m["params"] for m in peer.messages if m.get("method") == "ollm/completion/didChange"]
        assert [state["state"] for state in states] == ["unavailable"]


@pytest.mark.parametrize(
    ("gaps", "delay"),
    [
        ([], LEAST_DELAY),
        ([0.001] * 7, LEAST_DELAY),
        ([0.1] * 7, 0.13),
        ([0.1, 30.0, 0.1, 60.0, 0.1], 0.13),
        ([0.9] * 7, MOST_DELAY),
        ([5.0] * 7, LEAST_DELAY),
    ],
)
async def test_the_pause_follows_the_user_within_bounds(gaps: list[float], delay: float) -> None:
    engine = CompletionEngine(dict, lambda task: None, lambda *_: None, CompletionStatistics())
    now = 100.0
    engine._asked_at.append(now)
    for gap in gaps:
        now += gap
        engine._asked_at.append(now)
    assert engine._delay(CompletionSettings()) == pytest.approx(delay)
    assert engine._delay(None) == pytest.approx(delay)
    assert engine._delay(CompletionSettings(debounce_ms=1234)) == pytest.approx(1.234)
