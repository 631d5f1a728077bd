"""TabbyAPI, commit e632af4 (2026-08-13): FastAPI and sse-starlette, so CRLF and pings."""

from __future__ import annotations

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.documented._shapes import UVICORN, compact, fastapi, fastapi_text, not_found
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, chunked, cut_after
from tests.fakes.upstream import Reply

_PING = b": ping - 2026-08-13 10:00:00.000000+00:00\r\n\r\n"
_STREAM = (
    *UVICORN,
    "Cache-Control: no-store",
    "X-Accel-Buffering: no",
    "content-type: text/event-stream; charset=utf-8",
)


def events(*values: object) -> Reply:
    """Events in CRLF with a ping before and among them (sse_ping_interval, common/config_models.py:75)."""
    sent = [b"data: " + compact(value) + b"\r\n\r\n" for value in values]
    return chunked(_STREAM, (_PING, *sent[:1], _PING, *sent[1:]))


def chunk(delta: object, reason: str | None = None, **rest: object) -> dict[str, object]:
    """One event: never a role (OAI/utils/chat_completion.py)."""
    return {
        "id": "chatcmpl-x",
        "object": "chat.completion.chunk",
        "created": 1,
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        "model": "dir",
        **rest,
    }


DONE = b"[DONE]"
HI, THERE = chunk({"content": "Hi"}), chunk({"content": " there"})
# With include_usage the reason comes with the usage, in choices that are not empty (:839-872); a rate may
# be a word (backends/exllamav3/model.py:1149-1157).
END = chunk(
    {},
    "stop",
    usage={
        "prompt_tokens": 9,
        "prompt_time": 0.01,
        "prompt_tokens_per_sec": "Indeterminate",
        "completion_tokens": 2,
        "completion_time": 0.02,
        "completion_tokens_per_sec": 100.0,
        "total_tokens": 11,
        "total_time": 0.03,
    },
)
_CALL = {"index": 0, "id": "call_1", "type": "function"}
CALLS = {
    "tool_calls": [
        {**_CALL, "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}},
        {**_CALL, "index": 1, "id": "call_2", "function": {"name": "get_time", "arguments": "{}"}},
    ]
}
CHAT = Said(events(HI, THERE, END, DONE), usage=Usage(9, 2))
SERVICE = {  # endpoints/core/router.py:72-97, without a key
    "version": 0.1,
    "software": {"name": "TabbyAPI", "repository": "https://github.com/theroyallab/tabbyAPI"},
    "api": {"openai": {"name": "OpenAI API", "relative_url": "/v1", "version": 1}},
}
NO_KEY = fastapi({"detail": "Please provide an API key"}, "401 Unauthorized")
_CARD = {"id": "dir", "object": "model", "created": 1, "owned_by": "tabbyAPI", "logging": None}

WIRE = Wire(
    backend="tabbyapi",
    evidence=Evidence.DOCUMENTED,
    gets={
        "/.well-known/serviceinfo": fastapi(SERVICE),
        "/health": fastapi({"status": "healthy", "issues": []}),
        "/v1/models": fastapi({"object": "list", "data": [{**_CARD, "parameters": None}]}),
        "/v1/model": fastapi(  # endpoints/core/router.py:127-134
            {**_CARD, "parameters": {"max_seq_len": 4096, "cache_size": 8192, "use_vision": False}}
        ),
        # With its Kobold API on it answers like KoboldCpp (endpoints/Kobold/router.py:91-139), and like
        # llama.cpp in any case (endpoints/core/router.py:137-156).
        "/api/extra/version": fastapi({"result": "KoboldCpp", "version": "1.74"}),
        "/api/v1/info/version": fastapi({"result": "1.2.5"}),
        "/props": fastapi({"total_slots": 1, "chat_template": "", "default_generation_settings": {}}),
    },
    unknown=not_found(),
    locked=dict.fromkeys(("/v1/models", "/v1/model", "/props", "/api/v1/model"), NO_KEY),
    models=(ModelInfo("dir", context_length=4096, capabilities=("completion", "tools"), loaded=True),),
    chat=CHAT,
    whole=Said(
        # Not even the usage, which it tells a whole answer only when asked with stream_options.
        fastapi(
            {
                "id": "cmpl-x",
                "object": "chat.completion",
                "created": 1,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hi there"},
                        "finish_reason": "stop",
                    }
                ],
                "model": "dir",
                "usage": None,
            }
        )
    ),
    thinking=(
        Said(
            events(chunk({"reasoning_content": "hm"}), HI, THERE, END, DONE),
            thinking="hm",
            usage=Usage(9, 2),
            note="reasoning_content",
        ),
    ),
    tools=(
        Said(
            events(HI, chunk(CALLS, "tool_calls"), DONE),
            "Hi",
            "toolCalls",
            calls=(("get_weather", '{"city": "Paris"}'), ("get_time", "{}")),
            note="whole in the last record",
        ),
    ),
    failures={
        "prompt too long": (
            Failed(  # common/errors.py:16-26
                fastapi(
                    {
                        "error": {
                            "message": "Prompt length 5000 is greater than max_seq_len 4096",
                            "type": "invalid_request_error",
                            "param": None,
                            "code": "context_length_exceeded",
                        }
                    },
                    "400 Bad Request",
                ),
                K.CONTEXT_LENGTH,
                "5000",
            ),
        ),
        "wrong key": (
            Failed(fastapi({"detail": "Invalid API key"}, "401 Unauthorized"), K.AUTH, "Invalid API key"),
            Failed(NO_KEY, K.AUTH, note="none"),
        ),
        "busy": (
            Failed(
                fastapi({"detail": "No models are currently loaded."}, "503 Service Unavailable"),
                K.OVERLOADED,
                "No models are currently loaded",
            ),
            # No model, and a model named in the request (OAI/router.py:71-76).
            Failed(fastapi_text("Internal Server Error", "500 Internal Server Error"), K.BACKEND, note="500"),
        ),
        "error in mid-answer": (
            Failed(  # :880-882, and no [DONE]
                events(
                    HI,
                    {
                        "error": {
                            "message": "Chat completion aborted. Please check the server console.",
                            "trace": None,
                        }
                    },
                ),
                K.BACKEND,
                "Chat completion aborted",
                "Hi",
            ),
        ),
        "cut in mid-answer": (Failed(cut_after(CHAT.reply, b'"Hi"'), K.STREAM_TRUNCATED, "", "Hi"),),
    },
)
