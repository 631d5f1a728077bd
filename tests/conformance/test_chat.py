"""Answers: streamed and whole, with reasoning, with probabilities, and cut at stop strings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from ollm_daemon.domain import ChatRequest, GenerationOptions
from ollm_daemon.errors import ErrorKind
from ollm_daemon.providers import _ollama_dialect, _openai_answer
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.base import StreamDecoder
from tests.conformance.captured import OLLAMA_WIRE, VLLM_WIRE
from tests.conformance.captured_others import LLAMACPP_WIRE
from tests.conformance.documented import aphrodite, fronts, koboldcpp
from tests.conformance.documented._shapes import choice, compact
from tests.conformance.evidence import Evidence, case, documented, scenario, unsupported
from tests.conformance.subjects import WIRE, WIRES
from tests.conformance.wire import QUESTION, Said, Wire, bytes_of
from tests.fakes.captures import LLAMA_CPP, VLLM
from tests.fakes.upstream import End, Reply, capture_reply, ndjson_reply, sse_reply
from tests.providers.asking import Answer, ask

pytestmark = pytest.mark.anyio


async def read(wire: Wire, said: Said, request: ChatRequest = QUESTION) -> Answer:
    """One answer, read by the provider for that server."""
    async with wire.serving(said.reply) as (upstream, provider):
        answer = await ask(provider, request)
    assert [sent.path for sent in upstream.requests] == [wire.chat_path]
    return answer


def check(answer: Answer, said: Said) -> None:
    assert (answer.text, answer.thinking) == (said.text, said.thinking)
    assert [(name, arguments) for _, name, arguments in answer.calls] == list(said.calls)
    finished = answer.finished
    assert (finished.reason, finished.usage) == (said.reason, said.usage)
    assert finished.model


@scenario("chat, streamed", [case(wire.backend, wire.evidence, wire) for wire in WIRES])
async def test_stream(case: Wire) -> None:
    check(await read(case, case.chat), case.chat)


@scenario("chat, in one piece", [case(wire.backend, wire.evidence, wire) for wire in WIRES])
async def test_whole(case: Wire) -> None:
    check(await read(case, case.whole, replace(QUESTION, stream=False)), case.whole)


@scenario(
    "chat, whatever the network cuts",
    [
        case(wire.backend, wire.evidence, (wire, size), f"{size}")
        for wire in WIRES
        for size in ((1, 7) if wire.evidence is Evidence.DOCUMENTED else (7,))
    ],
)
async def test_pieces(case: tuple[Wire, int]) -> None:
    wire, size = case
    reply = wire.chat.reply
    cut = (
        Reply(bytes_of(reply), *reply.steps[-1:])
        if isinstance(reply.steps[-1], End)
        else Reply(bytes_of(reply))
    )
    check(await read(wire, replace(wire.chat, reply=cut.in_pieces(size))), wire.chat)


@scenario(
    "reasoning, under each name",
    [
        *(documented(wire.backend, (wire, said), said.note) for wire in WIRES for said in wire.thinking),
        *(unsupported(name, (WIRE[name], None)) for name in ("fastchat", "generic")),
    ],
)
async def test_thinking(case: tuple[Wire, Said | None]) -> None:
    wire, said = case
    if said is None:  # it tells none apart: the answer is all there is
        assert (await read(wire, wire.chat)).thinking == ""
        return
    check(await read(wire, said), said)


TAGGED = [
    f"{start}hm, I {end}\n\nHi there"
    for start, end in [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("[THINK]", "[/THINK]"),
        ("<seed:think>", "</seed:think>"),
    ]
]


def two_pieces(text: str) -> Iterator[tuple[str, str]]:
    return ((text[:at], text[at:]) for at in range(len(text) + 1))


def decoders(backend: str) -> Iterator[tuple[StreamDecoder, bytes]]:
    """A fresh decoder for each text and each place where it may be cut."""
    for text in TAGGED:
        for pieces in two_pieces(text):
            if backend == "ollama":
                last = {"message": {"content": ""}, "done": True, "done_reason": "stop", "model": "m"}
                lines = [{"message": {"content": piece}, "model": "m", "done": False} for piece in pieces]
                yield (
                    _ollama_dialect.ChatDecoder(),
                    b"".join(compact(line) + b"\n" for line in [*lines, last]),
                )
            else:
                chunks = [*(choice({"content": piece}) for piece in pieces), choice({}, "stop"), b"[DONE]"]
                body = b"".join(b"data: " + compact(chunk) + b"\n\n" for chunk in chunks)
                yield _openai_answer.ChatDecoder(BACKENDS[backend]), body


@scenario(
    "reasoning between tags, cut anywhere",
    [documented(name, name) for name in ("ollama", "lmstudio", "llamacpp", "koboldcpp", "generic")],
)
async def test_tags(case: str) -> None:
    for decoder, body in decoders(case):
        events = [event for at in range(len(body)) for event in decoder.feed(body[at : at + 1])]
        answer = Answer([*events, *decoder.end(), decoder.finished()])
        assert (answer.thinking, answer.text) == ("hm, I ", "Hi there"), body


PROBABLE = replace(QUESTION, options=GenerationOptions(top_logprobs=2))
OLLAMA_PROBABLE = ndjson_reply(
    # api/types.go:510, since 0.12.11: beside the message, a list
    [
        {
            "model": "m",
            "message": {"role": "assistant", "content": "Hi"},
            "done": False,
            "logprobs": [
                {
                    "token": "Hi",
                    "logprob": -0.5,
                    "bytes": [72, 105],
                    "top_logprobs": [{"token": "Ho", "logprob": -1.5}],
                }
            ],
        },
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ]
)


@scenario(
    "probabilities",
    [
        case(
            "vllm", Evidence.CAPTURE, (VLLM_WIRE, capture_reply(VLLM, "chat-logprobs-stream"), "ig", -6.831)
        ),
        case(
            "llamacpp",
            Evidence.CAPTURE,
            (LLAMACPP_WIRE, capture_reply(LLAMA_CPP, "chat-nonstream-logprobs"), "The", -2.575),
        ),
        documented("ollama", (OLLAMA_WIRE, OLLAMA_PROBABLE, "Hi", -0.5)),
        unsupported("fastchat", (WIRE["fastchat"], None, "", 0)),
    ],
)
async def test_logprobs(case: tuple[Wire, Reply | None, str, float]) -> None:
    wire, reply, token, logprob = case
    if reply is None:
        async with wire.serving() as (upstream, provider):
            with pytest.raises(Exception, match="tells no probabilities") as caught:
                await ask(provider, PROBABLE)
        assert getattr(caught.value, "kind", None) is ErrorKind.UNSUPPORTED
        assert upstream.requests == []
        return
    async with wire.serving(reply) as (upstream, provider):
        finished = (await ask(provider, PROBABLE)).finished
    first = finished.logprobs[0]
    assert first.token == token
    assert first.logprob == pytest.approx(logprob, abs=0.001)
    assert first.top
    body = upstream.requests[0].json()
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


STOPS = ("alpha", "beta", "gamma", "delta", "STOP", "END")
LIMITED = [VLLM_WIRE, aphrodite.WIRE, fronts.PRODUCTION_STACK, fronts.VLLM_ROUTER, fronts.RAY_SERVE]


@scenario(
    "stop strings beyond the server's limit",
    [
        *(documented(wire.backend, (wire, 4)) for wire in LIMITED),
        *(documented(wire.backend, (wire, None)) for wire in WIRES if wire not in LIMITED),
    ],
)
async def test_stops(case: tuple[Wire, int | None]) -> None:
    """What the server does not take is watched for here, and hit in mid-answer, closes it."""
    wire, limit = case
    request = replace(QUESTION, options=GenerationOptions(stop=STOPS))
    if limit is None:
        async with wire.serving(wire.chat.reply) as (upstream, provider):
            await ask(provider, request)
        body = upstream.requests[0].json()
        assert (body.get("stop") or body["options"]["stop"]) == list(STOPS)
        return
    endless = sse_reply([choice({"content": piece}) for piece in ("Hi ", "S", "TO", "P and on")])
    running = Reply(*endless.steps[:-1], End.STALL)
    async with wire.serving(running) as (upstream, provider):
        answer = await ask(provider, request)
        assert (answer.text, answer.finished.reason) == ("Hi ", "stop")
        await upstream.connections[-1].peer_closed()
        assert upstream.requests[-1].json()["stop"] == list(STOPS[:4])


@scenario("stop strings beyond the limit, cut", [documented(wire.backend, wire) for wire in LIMITED])
async def test_held_text(case: Wire) -> None:
    """Text held back as the beginning of a stop string is not lost with the connection."""
    broken = sse_reply([choice({"content": piece}) for piece in ("Hi ", "STO")])
    request = replace(QUESTION, options=GenerationOptions(stop=STOPS))
    async with case.serving(Reply(*broken.steps[:-1], End.CLOSE)) as (_, provider):
        answer = await ask(provider, request)
    assert answer.error
    assert (answer.error.kind, answer.text) == (ErrorKind.STREAM_TRUNCATED, "Hi STO")


def _ended(reason: str) -> Reply:
    return koboldcpp.events(koboldcpp.said("Hi"), koboldcpp.end(reason), koboldcpp.USAGE, koboldcpp.DONE)


@scenario(
    "a stop string called `length`",
    [
        documented("koboldcpp", (_ended("length"), ("x",), "stop"), "stop string"),
        documented("koboldcpp", (_ended("length"), (), "length"), "limit"),
        documented("koboldcpp", (_ended("stop"), ("x",), "stop"), "end token"),
    ],
)
async def test_length_of_koboldcpp(case: tuple[Reply, tuple[str, ...], Any]) -> None:
    """Without a stop string in the request there is none to be hit, so `length` is the limit."""
    reply, stops, reason = case
    request = replace(QUESTION, options=GenerationOptions(stop=stops, max_tokens=64))
    assert (await read(koboldcpp.WIRE, Said(reply), request)).finished.reason == reason


async def test_nothing_is_read_after_the_end_mark() -> None:
    """KoboldCpp keeps the line open for a moment; the answer does not wait for it."""
    data = bytes_of(koboldcpp.CHAT.reply)
    with anyio.fail_after(5):
        check(
            await read(koboldcpp.WIRE, replace(koboldcpp.CHAT, reply=Reply(data, End.STALL))), koboldcpp.CHAT
        )


def test_every_documented_line_is_json() -> None:
    """A slip in the bytes would be taken for a fault of the decoder."""
    for wire in WIRES:
        if wire.evidence is Evidence.DOCUMENTED and wire.backend != "ray-serve":
            for line in bytes_of(wire.chat.reply).splitlines():
                if line.startswith(b"data: {"):
                    assert json.loads(line[6:])
