"""Answers no standard allows, as servers really send them; and no answer, however odd, is a crash.

Each row is a whole body of an answer with status 200, read by the decoders alone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollm_daemon.domain import (
    Finished,
    FinishReason,
    ModelInfo,
    ProviderEvent,
    TextDelta,
    ThinkingDelta,
    Timings,
    ToolCallDelta,
    Usage,
)
from ollm_daemon.errors import BrokenAnswerError, ErrorKind, ProviderError, RefusedError
from ollm_daemon.providers import _ollama_dialect, _openai_answer
from ollm_daemon.providers._model_lists import decode_models
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.base import StreamDecoder
from ollm_daemon.providers.local import LocalProvider
from tests.fakes.upstream import End, Reply, ScriptedUpstream, json_reply
from tests.providers.asking import Answer, settings_for

K = ErrorKind
Call = tuple[str | None, str | None, str]


@dataclass(frozen=True)
class Odd:
    """A body, who sent it, and what it means."""

    body: str
    text: str = ""
    reason: FinishReason = "stop"
    thinking: str = ""
    usage: Usage | None = None
    calls: tuple[Call, ...] = ()
    error: ErrorKind | None = None
    said: str = ""
    backend: str = "generic"
    is_json: bool = False


def events(*values: object, end: str = "data: [DONE]\n\n") -> str:
    """Server-sent events: text as it is, anything else as JSON."""
    return "".join(f"data: {v if isinstance(v, str) else json.dumps(v)}\n\n" for v in values) + end


def delta(index: int = 0, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": reason}]}


def call(function: object, **fields: Any) -> dict[str, Any]:
    return delta(tool_calls=[{"type": "function", "function": function, **fields}])


A, B, STOP = delta(content="a"), delta(content="b"), delta(reason="stop")
CALLS = delta(reason="tool_calls")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ENGINE = {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}

SSE: dict[str, Odd] = {
    # chunks
    "content null": Odd(events(delta(role="assistant", content=None), A, STOP), "a"),
    "role alone, in every chunk": Odd(events(delta(role="assistant"), A, delta(role="assistant"), STOP), "a"),
    "delta null": Odd(events({"choices": [{"index": 0, "delta": None}]}, A, STOP), "a"),
    "delta absent": Odd(events({"choices": [{"index": 0}]}, A, STOP), "a"),
    "choices empty first": Odd(events({"choices": [], "prompt_filter_results": []}, A, STOP), "a"),
    "choices null": Odd(events({"choices": None}, A, STOP), "a"),
    "choices absent": Odd(events({"type": "mcp_tool_result", "content": "x"}, A, STOP), "a"),
    "choices of the wrong type": Odd(
        events({"choices": "x"}, {"choices": [5]}, {"choices": [None]}, A, STOP), "a"
    ),
    "index absent": Odd(events({"choices": [{"delta": {"content": "a"}}]}, STOP), "a"),
    "another choice": Odd(
        events(A, delta(1, content="x"), delta(1, "stop"), B, delta(reason="length")), "ab", "length"
    ),
    "empty data": Odd(events("", " ", A, STOP), "a"),
    "pings in CRLF": Odd(f": ping - 1\r\n\r\n{events(A)}: ping - 2\r\n\r\n", "a", "unknown"),
    "CRLF throughout": Odd(events(A, B, STOP).replace("\n", "\r\n"), "ab"),
    "no space after the colon": Odd(events(A, STOP).replace("data: ", "data:"), "a"),
    "ids and retries": Odd(f"id: 1\nretry: 10\n{events(A, STOP)}", "a"),
    "lone surrogates": Odd(events('{"choices":[{"delta":{"content":"\\ud800a"}}]}', STOP), "\ufffda"),
    "text beside the end": Odd(events(A, delta(reason="stop", content="b")), "ab"),
    # thinking
    "reasoning": Odd(events(delta(reasoning="r"), A, STOP), "a", thinking="r"),
    "reasoning_content": Odd(events(delta(reasoning_content="r"), A, STOP), "a", thinking="r"),
    "both, the same": Odd(events(delta(reasoning="r", reasoning_content="r"), A, STOP), "a", thinking="r"),
    "one of them null": Odd(events(delta(reasoning="r", reasoning_content=None), A, STOP), "a", thinking="r"),
    # the end
    "no end mark but a reason": Odd(events(A, STOP, end=""), "a"),
    "a reason that never comes": Odd(events(A), "a", "unknown"),
    "an empty reason on each chunk": Odd(events(delta(reason="", content="a"), STOP), "a"),
    "a reason twice": Odd(events(A, STOP, STOP), "a"),
    "a reason with the usage": Odd(events(A, {**STOP, "usage": USAGE}), "a", usage=Usage(3, 2)),
    "a reason nobody knows": Odd(events(A, delta(reason="eos_token")), "a", "unknown"),
    "content filter": Odd(events(A, delta(reason="content_filter")), "a", "contentFilter"),
    "function_call": Odd(events(delta(reason="function_call")), reason="toolCalls"),
    "two end marks, more between": Odd(events(A, STOP) + events(B, delta(reason="length")), "a"),
    "end mark without a line end": Odd(events(A, STOP, end="data: [DONE]"), "a"),
    "last chunk without a line end": Odd(events(A, end=f"data: {json.dumps(STOP)}"), "a"),
    "KoboldCpp: a stop string": Odd(events(A, delta(reason="length")), "a", backend="koboldcpp"),
    "elsewhere: the limit": Odd(events(A, delta(reason="length")), "a", "length"),
    # usage
    "usage null until the end": Odd(
        events({**A, "usage": None}, STOP, {"choices": [], "usage": USAGE}), "a", usage=Usage(3, 2)
    ),
    "usage in each chunk": Odd(
        events({**A, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}, {**STOP, "usage": USAGE}),
        "a",
        usage=Usage(3, 2),
    ),
    "usage without the prompt": Odd(
        events(A, {**STOP, "usage": {"completion_tokens": 2}}), "a", usage=Usage(0, 2)
    ),
    "usage of other types": Odd(
        events(A, {**STOP, "usage": {"prompt_tokens": "3", "completion_tokens": -1, "total_tokens": True}}),
        "a",
    ),
    "rates that are text": Odd(
        events(A, {**STOP, "usage": {**USAGE, "completion_tokens_per_sec": "Indeterminate"}}),
        "a",
        usage=Usage(3, 2),
    ),
    "cached tokens": Odd(
        events(A, {**STOP, "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}}}),
        "a",
        usage=Usage(3, 2, 1),
    ),
    # tool calls
    "call in fragments": Odd(
        events(
            call({"name": "f"}, index=0, id="x"),
            call({"arguments": '{"a"'}, index=0),
            call({"name": None, "arguments": ": 1}"}, index=0, id=None),
            CALLS,
        ),
        reason="toolCalls",
        calls=(("x", "f", '{"a": 1}'),),
    ),
    "call in one piece": Odd(
        events(call({"name": "f", "arguments": "{}"}, index=0, id="x"), CALLS),
        reason="toolCalls",
        calls=(("x", "f", "{}"),),
    ),
    "call without an index": Odd(
        events(call({"name": "f", "arguments": "{}"}, id="x"), CALLS),
        reason="toolCalls",
        calls=(("x", "f", "{}"),),
    ),
    "calls that begin at 1": Odd(
        events(call({"name": "f", "arguments": "{}"}, index=1, id="x"), CALLS),
        reason="toolCalls",
        calls=(("x", "f", "{}"),),
    ),
    "calls in one delta": Odd(
        events(delta(tool_calls=[{"function": {"name": "f"}}, {"function": {"name": "g"}}]), CALLS),
        reason="toolCalls",
        calls=((None, "f", ""), (None, "g", "")),
    ),
    "arguments null": Odd(
        events(call({"name": "f", "arguments": None}, index=0, id="x"), CALLS),
        reason="toolCalls",
        calls=(("x", "f", ""),),
    ),
    "arguments as an object": Odd(
        events(call({"name": "f", "arguments": {"a": "\u00e9"}}, index=0, id="x"), CALLS),
        reason="toolCalls",
        calls=(("x", "f", '{"a": "\u00e9"}'),),
    ),
    "calls null or empty": Odd(events(delta(content="a", tool_calls=None), delta(tool_calls=[]), STOP), "a"),
    "text before a call": Odd(
        events(A, call({"name": "f", "arguments": "{}"}, index=0, id="x"), CALLS),
        "a",
        "toolCalls",
        calls=(("x", "f", "{}"),),
    ),
    # failures
    "nothing": Odd("", error=K.STREAM_TRUNCATED),
    "null": Odd("null", error=K.STREAM_TRUNCATED),
    "only pings": Odd(": ping\n\n" * 3, error=K.STREAM_TRUNCATED),
    "text that stops": Odd(events(A, end=""), "a", error=K.STREAM_TRUNCATED),
    "half a chunk": Odd(events(A, end='data: {"choi'), "a", error=K.STREAM_TRUNCATED),
    "Ollama: an empty chunk, then nothing": Odd(
        events(A, {**delta(content=""), "model": ""}, end=""), "a", error=K.STREAM_TRUNCATED
    ),
    "a chunk that is not JSON": Odd(events(A, "{oops"), "a", error=K.PROTOCOL, said="not JSON"),
    "an error object": Odd(events(A, {"error": {"message": "m"}}, end=""), "a", error=K.BACKEND, said="m"),
    "an error object, then the end mark": Odd(
        events(A, {"error": ENGINE}), "a", error=K.BACKEND, said="EngineCore"
    ),
    "an error word": Odd(events(A, {"error": "boom"}), "a", error=K.BACKEND, said="boom"),
    "a bare string": Odd(events(A, '"boom"'), "a", error=K.BACKEND, said="boom"),
    "an error beside empty choices": Odd(
        events({"choices": [], "error": {"message": "m"}}), error=K.BACKEND, said="m"
    ),
    "FastChat's": Odd(events(A, {"text": "HIGH TRAFFIC", "error_code": 50001}), "a", error=K.OVERLOADED),
    "flat": Odd(events(A, {"object": "error", "message": "m", "code": 40303}), "a", error=K.CONTEXT_LENGTH),
    "FastAPI's": Odd(events(A, {"detail": "gone"}), "a", error=K.BACKEND, said="gone"),
    "LM Studio's event": Odd(
        f"{events(A, end='')}event: error\ndata: "
        '{"error":{"message":"does not fit in context length"}}\n\n',
        "a",
        error=K.CONTEXT_LENGTH,
    ),
    "an error event of text": Odd('event: error\ndata: {"message": "m"}\n\n', error=K.BACKEND, said="m"),
    "llama.cpp's former field": Odd(
        f"{events(A, end='')}error: " + '{"code":500,"message":"m"}\n\ndata: [DONE]\n\n',
        "a",
        error=K.BACKEND,
        said="m",
    ),
    "an object without a frame": Odd(
        events(A, end='{"error":{"message":"m"}}\n'), "a", error=K.BACKEND, said="m"
    ),
    "an object instead of a stream": Odd(
        '{"error":"Unexpected endpoint or method. (GET /x)"}', error=K.PROTOCOL
    ),
    "KoboldCpp: the engine failed": Odd(events(A, delta(reason="error")), "a", error=K.BACKEND),
    "an abort": Odd(events(A, delta(reason="abort")), "a", error=K.BACKEND),
    "LocalAI: an error as text": Odd(
        events(delta(content="Internal error: no model"), STOP),
        error=K.BACKEND,
        said="no model",
        backend="localai",
    ),
    "LocalAI: such a text later is a text": Odd(
        events(A, delta(content="Internal error: b"), STOP), "aInternal error: b", backend="localai"
    ),
    "elsewhere: such a text is a text": Odd(
        events(delta(content="Internal error: b"), STOP), "Internal error: b"
    ),
    # one document
    "a document": Odd(
        json.dumps(
            {
                "choices": [{"message": {"content": "a", "reasoning": "r"}, "finish_reason": "stop"}],
                "usage": USAGE,
            }
        ),
        "a",
        thinking="r",
        usage=Usage(3, 2),
        is_json=True,
    ),
    "a document with a failure": Odd('{"error": {"message": "m"}}', error=K.BACKEND, said="m", is_json=True),
    "a document that is null": Odd("null", error=K.STREAM_TRUNCATED, is_json=True),
    "a document that is cut": Odd('{"choices": [', error=K.PROTOCOL, is_json=True),
    "no document": Odd("", error=K.STREAM_TRUNCATED, is_json=True),
}


def records(*values: object) -> str:
    return "".join(f"{v if isinstance(v, str) else json.dumps(v)}\n" for v in values)


def record(content: str = "", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": content, **fields}, "done": False}


DONE = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
OLLAMA_CALL = {"id": "x", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}

NDJSON: dict[str, Odd] = {
    "usual": Odd(
        records(record("a"), record("b"), {**DONE, "prompt_eval_count": 3, "eval_count": 2}),
        "ab",
        usage=Usage(3, 2),
    ),
    "prompt in the cache": Odd(records(record("a"), {**DONE, "eval_count": 2}), "a", usage=Usage(0, 2)),
    "counts of other types": Odd(
        records(record("a"), {**DONE, "eval_count": "2", "prompt_eval_count": -1}), "a"
    ),
    "thinking": Odd(records(record(thinking="r"), record("a"), DONE), "a", thinking="r"),
    "limit": Odd(records(record("a"), {**DONE, "done_reason": "length"}), "a", "length"),
    "no reason": Odd(records(record("a"), {"message": {}, "done": True}), "a", "unknown"),
    "an empty reason": Odd(records(record("a"), {**DONE, "done_reason": ""}), "a", "unknown"),
    "loaded, as one document": Odd(json.dumps({**DONE, "done_reason": "load"}), reason="unknown"),
    "no line end": Odd(records(record("a")) + json.dumps(DONE), "a"),
    "CRLF": Odd(records(record("a"), DONE).replace("\n", "\r\n"), "a"),
    "blank lines": Odd("\n\n" + records(record("a"), "", " ", DONE), "a"),
    "content null": Odd(records({"message": {"content": None}}, record("a"), DONE), "a"),
    "message null": Odd(records({"message": None, "done": False}, record("a"), DONE), "a"),
    "more after the end": Odd(records(record("a"), DONE, record("x"), {"error": "late"}), "a"),
    "values that are no records": Odd(records("null", "5", "[]", record("a"), DONE), "a"),
    "separators of Unicode in a string": Odd(
        '{"message":{"content":"a\u2028b"}}\n' + records(DONE), "a\u2028b"
    ),
    "a context of 100,000 numbers": Odd(records(record("a"), {**DONE, "context": list(range(100_000))}), "a"),
    "call": Odd(
        records(record(tool_calls=[OLLAMA_CALL]), DONE), reason="toolCalls", calls=(("x", "f", '{"a": 1}'),)
    ),
    "call in the last record": Odd(
        records(record("a"), {**DONE, "message": {"content": "", "tool_calls": [OLLAMA_CALL]}}),
        "a",
        "toolCalls",
        calls=(("x", "f", '{"a": 1}'),),
    ),
    "calls in two records, one index": Odd(
        records(record(tool_calls=[OLLAMA_CALL]), record(tool_calls=[OLLAMA_CALL]), DONE),
        reason="toolCalls",
        calls=(("x", "f", '{"a": 1}'), ("x", "f", '{"a": 1}')),
    ),
    "call without an id": Odd(
        records(record(tool_calls=[{"function": {"name": "f", "arguments": {}}}]), DONE),
        reason="toolCalls",
        calls=((None, "f", "{}"),),
    ),
    "calls null": Odd(records(record("a", tool_calls=None), DONE), "a"),
    "an error line": Odd(
        records(record("a"), record("b"), {"error": "boom"}), "ab", error=K.BACKEND, said="boom"
    ),
    "an error line at once": Odd(records({"error": "model 'm' not found"}), error=K.NOT_FOUND),
    "an error in JSON in JSON": Odd(
        records(
            record("a"), {"error": '{"error":{"code":400,"message":"exceeds the available context size"}}'}
        ),
        "a",
        error=K.CONTEXT_LENGTH,
    ),
    "an end that never comes": Odd(records(record("a"), record("b")), "ab", error=K.STREAM_TRUNCATED),
    "half a record": Odd(records(record("a")) + '{"message":{"con', "a", error=K.PROTOCOL),
    "nothing": Odd("", error=K.STREAM_TRUNCATED),
    "a page": Odd("<!doctype html>\n<html>\n", error=K.PROTOCOL),
    "the framing of another dialect": Odd(events(A, STOP), error=K.PROTOCOL),
}


def sse_decoder(odd: Odd) -> StreamDecoder:
    return _openai_answer.ChatDecoder(BACKENDS[odd.backend], is_json=odd.is_json)


def ndjson_decoder(_: Odd) -> StreamDecoder:
    return _ollama_dialect.ChatDecoder()


def pull(decoder: StreamDecoder, data: bytes) -> Iterator[ProviderEvent]:
    for i in range(len(data)):
        yield from decoder.feed(data[i : i + 1])
    yield from decoder.end()
    yield decoder.finished()


def read(decoder: StreamDecoder, data: bytes) -> Answer:
    """Everything a decoder finds, byte by byte."""
    answer = Answer()
    try:
        for event in pull(decoder, data):
            answer.events.append(event)
    except ProviderError as error:
        answer.error = error
    return answer


def check(answer: Answer, odd: Odd) -> None:
    assert (answer.text, answer.thinking) == (odd.text, odd.thinking)
    assert answer.calls == list(odd.calls)
    if odd.error is None:
        assert (answer.finished.reason, answer.finished.usage) == (odd.reason, odd.usage)
    else:
        assert answer.error is not None
        assert answer.error.kind is odd.error
        assert odd.said in str(answer.error)


@pytest.mark.parametrize("name", SSE)
def test_sse(name: str) -> None:
    check(read(sse_decoder(SSE[name]), SSE[name].body.encode()), SSE[name])


@pytest.mark.parametrize("name", NDJSON)
def test_ndjson(name: str) -> None:
    check(read(ndjson_decoder(NDJSON[name]), NDJSON[name].body.encode()), NDJSON[name])


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ({"prompt_ms": 1.5, "predicted_ms": 2}, Timings(None, 1.5, 2)),
        ({"prompt_ms": "1.5", "predicted_ms": [2]}, Timings()),
        ({"prompt_ms": True}, Timings()),
        ({}, None),
        ("fast", None),
    ],
)
def test_timings(timings: object, expected: Timings | None) -> None:
    body = events(A, {**STOP, "timings": timings})
    assert read(sse_decoder(Odd(body)), body.encode()).finished.timings == expected


def test_timings_that_no_clock_shows() -> None:
    body = events(A, json.dumps({**STOP, "timings": {"prompt_ms": 9}}).replace("9", "1e999"))
    finished = read(sse_decoder(Odd(body)), body.encode()).finished
    assert finished.timings in (None, Timings())


# Any value in any place

SEEDS: list[tuple[str, list[Any]]] = [
    (
        "sse",
        [{**A, "model": "m"}, {**STOP, "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 1}}}],
    ),
    (
        "sse",
        [call({"name": "f", "arguments": "{}"}, index=0, id="x"), {**CALLS, "timings": {"prompt_ms": 1}}],
    ),
    ("sse", [delta(reasoning="r"), {"error": {"message": "m", "type": "t", "code": 1}}]),
    (
        "sse",
        [
            {
                "object": "error",
                "message": "m",
                "code": 1,
                "error_code": 2,
                "detail": [{"loc": [1], "msg": "m"}],
            }
        ],
    ),
    (
        "ndjson",
        [record("a", thinking="r", tool_calls=[OLLAMA_CALL]), {**DONE, "eval_count": 1, "load_duration": 2}],
    ),
    ("ndjson", [record("a"), {"error": {"message": "m"}}]),
]
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 10**30, 1.5, "", "x", "stop", "[DONE]", '{"error":"y"}']),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["error", "message", "content", "function", "name", "x"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside `value`."""
    if path:
        yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in children:
        yield from places(inner, (*path, key))


@st.composite
def odd_answers(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """An answer of some dialect with up to three of its values replaced by others."""
    dialect, seed = draw(st.sampled_from(SEEDS))
    answer = copy.deepcopy(seed)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(places(answer))))
        target = answer
        for key in path:
            target = target[key]
        target[last] = draw(VALUES)
    return dialect, answer


@settings(deadline=None, max_examples=600)
@given(odd_answers())
def test_no_answer_is_a_crash(odd: tuple[str, list[Any]]) -> None:
    """Whatever stands where, it is an event of the declared types or an error with a name."""
    dialect, answer = odd
    is_sse = dialect == "sse"
    body = events(*map(json.dumps, answer)) if is_sse else records(*map(json.dumps, answer))
    found = read(sse_decoder(Odd(body)) if is_sse else ndjson_decoder(Odd(body)), body.encode())
    assert found.error is None or isinstance(found.error, RefusedError | BrokenAnswerError)
    for event in found.events:
        match event:
            case TextDelta() | ThinkingDelta():
                assert isinstance(event.text, str)
                assert event.text
            case ToolCallDelta():
                assert isinstance(event.id, str | None)
                assert isinstance(event.name, str | None)
                assert isinstance(event.arguments_fragment, str)
            case Finished():
                assert isinstance(event.model, str | None)


@settings(deadline=None, max_examples=200)
@given(st.fixed_dictionaries({}, optional={"data": VALUES, "models": VALUES}) | VALUES)
def test_no_list_of_models_is_a_crash(document: Any) -> None:
    for model in decode_models(document, "openai") or ():
        assert isinstance(model.id, str)


TAGS: dict[str, tuple[Any, list[ModelInfo]]] = {
    "null": (None, []),
    "no models": ({"models": []}, []),
    "models null": ({"models": None}, []),
    "models of the wrong type": ({"models": "m"}, []),
    "entries of the wrong type": ({"models": [None, 5, "m", {}, {"name": None}, {"name": 7}]}, []),
    "a bare name": ({"models": [{"name": "m"}]}, [ModelInfo("m", loaded=False)]),
    "details of the wrong type": (
        {"models": [{"name": "m", "details": "x"}]},
        [ModelInfo("m", loaded=False)],
    ),
    "values of the wrong type": (
        {
            "models": [
                {
                    "name": "m",
                    "size": "9",
                    "capabilities": "completion",
                    "details": {"parameter_size": 7, "quantization_level": ["Q4"], "context_length": "x"},
                }
            ]
        },
        [ModelInfo("m", loaded=False)],
    ),
    "capabilities of the wrong type": (
        {"models": [{"name": "m", "capabilities": ["completion", None, 5, {}]}]},
        [ModelInfo("m", capabilities=("completion",), loaded=False)],
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", TAGS)
async def test_ollamas_list_of_models(name: str) -> None:
    document, expected = TAGS[name]
    replies = {"/api/tags": json_reply(200, document), "/api/ps": json_reply(200, {"models": []})}
    async with ScriptedUpstream(replies) as upstream:
        provider = LocalProvider(settings_for(upstream.url, "local", "ollama"))
        assert await provider.list_models() == expected
        await provider.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("reply", [json_reply(404, {}), json_reply(200, {"models": 5}), Reply(End.CLOSE)])
async def test_a_server_that_does_not_tell_what_is_loaded(reply: Reply) -> None:
    replies = {"/api/tags": json_reply(200, {"models": [{"name": "m"}]}), "/api/ps": reply}
    async with ScriptedUpstream(replies) as upstream:
        provider = LocalProvider(settings_for(upstream.url, "local", "ollama"))
        [model] = await provider.list_models()
        assert not model.loaded
        await provider.is_loading("m")
        await provider.aclose()
