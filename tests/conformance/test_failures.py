"""Failures of each server: one named error, what to do about it, and the text that had arrived."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ollm_daemon.domain import Message, Tool
from ollm_daemon.errors import ErrorKind, ProviderError, RefusedError
from ollm_daemon.generation import Candidate, run_chat
from tests.conformance.documented import koboldcpp, textgen
from tests.conformance.evidence import Case, case, documented, scenario, unsupported
from tests.conformance.subjects import WIRE, WIRES
from tests.conformance.wire import QUESTION, Failed, Wire, emptied
from tests.fakes.upstream import End, Reply, Request, json_reply
from tests.providers.asking import ask

pytestmark = pytest.mark.anyio

# An unknown name is answered by whatever is loaded.
ANY_NAME = ("lmstudio", "textgen", "koboldcpp", "llamacpp", "tabbyapi")
HINTS = {
    ErrorKind.AUTH: "Correct the key in `providers.here.apiKey`",
    ErrorKind.CONTEXT_LENGTH: "Shorten the prompt",
}


def rows(name: str, *more: Case) -> list[Case]:
    """The failures of that name, of all servers."""
    found = [
        case(wire.backend, failed.evidence or wire.evidence, (wire, failed), failed.note)
        for wire in WIRES
        for failed in wire.failures.get(name, ())
    ]
    return [*found, *more]


async def check(case: tuple[Wire, Failed]) -> ProviderError:
    """The provider's error, and what had arrived before it."""
    wire, failed = case
    async with wire.serving(failed.reply, key=True) as (_, provider):
        answer = await ask(provider)
    assert answer.error is not None, answer.text
    assert (answer.error.kind, failed.words in str(answer.error)) == (failed.kind, True), str(answer.error)
    assert failed.partial in answer.text if failed.partial else not answer.text
    return answer.error


@scenario("prompt too long, refused by the server", rows("prompt too long"))
async def test_too_long(case: tuple[Wire, Failed]) -> None:
    error = await check(case)
    assert not error.retryable


def _count(tokens: int) -> dict[str, Reply]:
    return {
        "/api/extra/tokencount": json_reply(200, {"value": tokens, "ids": []}),
        "/v1/internal/token-count": json_reply(200, {"length": tokens}),
    }


LONG = replace(QUESTION, messages=(Message("user", "long " * 2000),))


@scenario(
    "prompt too long, cut in silence by the server",
    [
        documented("koboldcpp", (koboldcpp.WIRE, "koboldcpp/m", {})),
        documented("koboldcpp", (koboldcpp.WIRE, "any", {}), "any name"),
        documented("textgen", (textgen.WIRE, "m.gguf", {"context_length": 4096}), "contextLength"),
    ],
)
async def test_silent_cut(case: tuple[Wire, str, dict[str, Any]]) -> None:
    """Refused here with both numbers, before the server is asked."""
    wire, model, settings = case
    async with wire.serving({**_count(5000), wire.chat_path: wire.chat.reply}, **settings) as (
        upstream,
        provider,
    ):
        with pytest.raises(RefusedError) as caught:
            await run_chat([Candidate(provider, model)], LONG)
    assert caught.value.kind is ErrorKind.CONTEXT_LENGTH
    assert "5000 tokens" in str(caught.value)
    assert "4096" in str(caught.value)
    assert wire.chat_path not in [request.path for request in upstream.requests]


@scenario("tools count as prompt", [documented("koboldcpp", koboldcpp.WIRE)])
async def test_tools_that_do_not_fit(case: Wire) -> None:
    """A template writes them into the prompt, which the server's own count leaves out."""
    many = tuple(Tool(f"tool_{i}", "What it does. " * 20, {"type": "object"}) for i in range(60))
    async with case.serving({**_count(9), case.chat_path: case.chat.reply}) as (_, provider):
        with pytest.raises(RefusedError, match="has about") as caught:
            await run_chat([Candidate(provider, "koboldcpp/m")], replace(QUESTION, tools=many))
        counted = await provider.count_tokens(replace(QUESTION, tools=many))
    assert caught.value.kind is ErrorKind.CONTEXT_LENGTH
    assert (counted.tokens > 4096, counted.exact) == (True, False)


@scenario("room for the answer kept", [documented("koboldcpp", koboldcpp.WIRE)])
async def test_room(case: Wire) -> None:
    """A prompt that fits leaves less for the answer: KoboldCpp would take it from the prompt."""
    async with case.serving({**_count(4000), case.chat_path: case.chat.reply}) as (upstream, provider):
        await run_chat([Candidate(provider, "koboldcpp/m")], LONG)
    assert upstream.requests[-1].json()["max_tokens"] == 4096 - 4000 - 16


@scenario("a window that nobody tells", [documented("textgen", textgen.WIRE)])
async def test_untold_window(case: Wire) -> None:
    async with case.serving(case.chat.reply) as (_, provider):
        result = await run_chat([Candidate(provider, "m.gguf")], LONG)
    assert "set `providers.here.contextLength`" in " ".join(result.warnings)


@scenario(
    "unknown model",
    rows(
        "unknown model", *(unsupported(name, (WIRE[name], None)) for name in ANY_NAME if name != "lmstudio")
    ),
)
async def test_unknown_model(case: tuple[Wire, Failed | None]) -> None:
    wire, failed = case
    if failed is not None:
        error = await check((wire, failed))
        assert error.hint
        assert not error.retryable
        return
    # The server does not look at the name: the answer says whose it is.
    async with wire.serving(wire.chat.reply) as (_, provider):
        result = await run_chat([Candidate(provider, "x")], QUESTION)
    assert "does not look at the model's name" in " ".join(result.warnings)


@scenario("wrong key", rows("wrong key"))
async def test_wrong_key(case: tuple[Wire, Failed]) -> None:
    error = await check(case)
    assert error.hint.startswith(HINTS[ErrorKind.AUTH])
    assert not error.retryable


@scenario("no key", rows("wrong key"))
async def test_no_key(case: tuple[Wire, Failed]) -> None:
    wire, failed = case
    async with wire.serving(failed.reply) as (_, provider):
        error = (await ask(provider)).error
    assert error
    assert (error.kind, error.hint[:51]) == (
        ErrorKind.AUTH,
        "The server wants a key: set `providers.here.apiKey`",
    )


@scenario("busy, or not ready", rows("busy"))
async def test_busy(case: tuple[Wire, Failed]) -> None:
    error = await check(case)
    assert error.retryable
    assert error.loading == ("oading" in case[1].words)


@scenario("error in mid-answer", rows("error in mid-answer"))
async def test_error_in_mid_answer(case: tuple[Wire, Failed]) -> None:
    await check(case)
    await check_partial(case)


@scenario("cut in mid-answer", rows("cut in mid-answer"))
async def test_cut(case: tuple[Wire, Failed]) -> None:
    await check(case)
    await check_partial(case)


async def check_partial(case: tuple[Wire, Failed]) -> None:
    """Once text has arrived, nothing is sent again and the error carries it."""
    wire, failed = case
    if not failed.partial:
        return
    async with wire.serving(failed.reply) as (upstream, provider):
        with pytest.raises(ProviderError) as caught:
            await run_chat([Candidate(provider, wire.models[0].id)], QUESTION)
    assert failed.partial in caught.value.partial_text
    assert (caught.value.provider, caught.value.kind) == ("here", failed.kind)
    sent = [request for request in upstream.requests if request.path == wire.chat_path]
    assert len([request for request in sent if request.json()["stream"]]) == 1


@scenario(
    "no answer at all",
    rows(
        "no answer at all",
        *(
            case(
                wire.backend,
                wire.evidence,
                (wire, Failed(emptied(wire.chat.reply), ErrorKind.STREAM_TRUNCATED)),
            )
            for wire in WIRES
        ),
    ),
)
async def test_nothing(case: tuple[Wire, Failed]) -> None:
    await check(case)


# textgen cuts a stream for any error of its own; the same request without streaming says why.


def _asked_again(first: Reply, second: Reply) -> Any:
    def answer(request: Request) -> Reply:
        return first if request.json()["stream"] else second

    return answer


@scenario(
    "the reason for a cut",
    [
        documented("textgen", (textgen.WHY, ErrorKind.INVALID, "role 'robot' is not known"), "said"),
        documented("textgen", (textgen.WIRE.whole.reply, ErrorKind.STREAM_TRUNCATED, "textgen"), "not said"),
        documented("textgen", (Reply(End.CLOSE), ErrorKind.STREAM_TRUNCATED, ""), "gone"),
    ],
)
async def test_why(case: tuple[Reply, ErrorKind, str]) -> None:
    second, kind, words = case
    answers = _asked_again(textgen.CUT_AFTER_THE_ROLE, second)
    wire = replace(textgen.WIRE, unknown=answers)
    async with wire.serving() as (upstream, provider):
        error = (await ask(provider)).error
    assert error
    assert error.kind is kind
    assert words in str(error) or kind is ErrorKind.STREAM_TRUNCATED
    again = upstream.requests[-1].json()
    assert (again["stream"], again["max_tokens"], "stream_options" in again) == (False, 1, False)
