"""More servers whose bytes were recorded: llama.cpp, FastChat, and one that nothing gives away.

See tests/captures/README.md for what was recorded.
"""

from __future__ import annotations

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.captured import OLD, PARIS, WHITE, WHITE_BUT, too_long
from tests.conformance.documented._shapes import choice, fastapi_events
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, cut_after, with_body
from tests.fakes.captures import FASTCHAT, LLAMA_CPP, LLAMA_CPP_PYTHON
from tests.fakes.upstream import capture_reply as recorded

LLAMACPP_WIRE = Wire(
    backend="llamacpp",
    evidence=Evidence.CAPTURE,
    gets={
        "/v1/models": recorded(LLAMA_CPP, "v1-models"),
        "/props": recorded(LLAMA_CPP, "props"),
        "/health": recorded(LLAMA_CPP, "health"),
    },
    unknown=lambda _: recorded(LLAMA_CPP, "err-405"),
    locked={"*": recorded(LLAMA_CPP, "err-no-api-key")},
    loading=recorded(LLAMA_CPP, "err-loading-503"),
    version="b0-unknown",
    models=(
        ModelInfo(
            "smollm2",
            context_length=2048,
            max_context_length=8192,
            size_bytes=96576768,
            capabilities=("completion", "tools"),
        ),
    ),
    chat=Said(recorded(LLAMA_CPP, "chat-stream-usage"), f"{WHITE}, but", "length", Usage(25, 8, 24)),
    whole=Said(recorded(LLAMA_CPP, "chat-nonstream"), WHITE_BUT, "length", Usage(25, 16, 24)),
    thinking=(
        Said(  # server-chat.cpp, b11434
            fastapi_events(
                choice({"role": "assistant", "content": None}),
                choice({"reasoning_content": "hm"}),
                choice({"content": "Hi there"}),
                choice({}, "stop"),
                b"[DONE]",
            ),
            thinking="hm",
            note="reasoning_content",
        ),
    ),
    tools=(
        Said(
            recorded(LLAMA_CPP, "tool-call-auto-stream"),
            "",
            "toolCalls",
            calls=(("get_weather", PARIS),),
            note="fragments",
        ),
    ),
    failures={
        "prompt too long": (too_long(LLAMA_CPP, "err-context-overflow-stream", "4021"),),
        "wrong key": (Failed(recorded(LLAMA_CPP, "err-bad-api-key"), K.AUTH, "Invalid API Key"),),
        "busy": (Failed(recorded(LLAMA_CPP, "err-loading-503-chat"), K.OVERLOADED, "Loading model"),),
        "error in mid-answer": (
            Failed(  # server-context.cpp:4766-4776: no end mark
                fastapi_events(
                    choice({"role": "assistant", "content": "Hi"}),
                    {"error": {"code": 500, "message": "boom", "type": "server_error"}},
                ),
                K.BACKEND,
                "boom",
                "Hi",
                evidence=OLD,
            ),
        ),
        "cut in mid-answer": (
            Failed(
                cut_after(recorded(LLAMA_CPP, "chat-stream"), b'" obvious"'),
                K.STREAM_TRUNCATED,
                "",
                "The most",
            ),
        ),
    },
)

FASTCHAT_WIRE = Wire(
    backend="fastchat",
    evidence=Evidence.CAPTURE,
    gets={"/v1/models": recorded(FASTCHAT, "v1-models")},
    unknown=lambda _: recorded(FASTCHAT, "err-404"),
    locked={"/v1/models": recorded(FASTCHAT, "err-no-api-key")},
    models=(ModelInfo("smollm2"),),
    chat=Said(recorded(FASTCHAT, "chat-stream"), " I'm a terse assistant. US", "length"),
    whole=Said(recorded(FASTCHAT, "chat-nonstream"), " I'm a terse assistant. US", "length", Usage(18, 7)),
    failures={
        "prompt too long": (too_long(FASTCHAT, "err-context-overflow-stream", "9036"),),
        "unknown model": (Failed(recorded(FASTCHAT, "err-unknown-model"), K.NOT_FOUND, "Only smollm2"),),
        "wrong key": (Failed(recorded(FASTCHAT, "err-bad-api-key"), K.AUTH),),
        "busy": (
            Failed(
                with_body("500 Internal Server Error", b"Internal Server Error", "content-type: text/plain"),
                K.BACKEND,
                note="500",
                evidence=OLD,
            ),
        ),
        "error in mid-answer": (
            Failed(  # openai_api_server.py:508-512, 0.2.36
                fastapi_events(
                    {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}}]},
                    {
                        "text": "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE."
                        "**",
                        "error_code": 50001,
                    },
                    b"[DONE]",
                ),
                K.OVERLOADED,
                "HIGH TRAFFIC",
                "Hi",
                evidence=OLD,
            ),
        ),
        "cut in mid-answer": (
            Failed(recorded(FASTCHAT, "chat-stream-worker-killed"), K.STREAM_TRUNCATED, "", "I can"),
        ),
    },
)

_COLOURS = "There are three colors: blue, red"

GENERIC_WIRE = Wire(
    backend="generic",
    evidence=Evidence.CAPTURE,
    gets={"/v1/models": recorded(LLAMA_CPP_PYTHON, "v1-models")},
    unknown=lambda _: recorded(LLAMA_CPP_PYTHON, "err-404"),
    locked={"/v1/models": recorded(LLAMA_CPP_PYTHON, "err-no-api-key")},
    known_as=None,
    models=(ModelInfo("smollm2"),),
    chat=Said(recorded(LLAMA_CPP_PYTHON, "chat-stream-usage"), _COLOURS, "length"),
    whole=Said(recorded(LLAMA_CPP_PYTHON, "chat-nonstream"), _COLOURS, "length", Usage(25, 8)),
    tools=(
        Said(
            recorded(LLAMA_CPP_PYTHON, "tool-named-stream"),
            "",
            "toolCalls",
            calls=(("get_weather", '{ "city": "Paris"}'),),
            note="fragments",
        ),
    ),
    failures={
        "prompt too long": (too_long(LLAMA_CPP_PYTHON, "err-context-overflow", "4039"),),
        "wrong key": (Failed(recorded(LLAMA_CPP_PYTHON, "err-bad-api-key"), K.AUTH, "Invalid API key"),),
        "no answer at all": (
            Failed(
                recorded(LLAMA_CPP_PYTHON, "err-context-overflow-stream"),
                K.STREAM_TRUNCATED,
                "without a single",
            ),
        ),
        "cut in mid-answer": (
            Failed(
                cut_after(recorded(LLAMA_CPP_PYTHON, "chat-stream"), b'" are"'),
                K.STREAM_TRUNCATED,
                "",
                "There are",
            ),
        ),
    },
)
