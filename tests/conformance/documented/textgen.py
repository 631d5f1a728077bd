"""text-generation-webui (textgen) v4.9, commit ed888c7: events in LF, pings in CRLF, and cuts for errors."""

from __future__ import annotations

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.documented._shapes import UVICORN, compact, fastapi, fastapi_text, not_found
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, chunked, cut_after
from tests.fakes.upstream import Reply

# sse-starlette 1.6.5, which it pins, writes pings so, whatever the events end with (script.py:197, 239).
_PING = b": ping - 2026-05-20 10:00:00.000000\r\n\r\n"


def events(*values: object) -> Reply:
    """Events in LF with a ping among them."""
    sent = [b"data: " + compact(value) + b"\n\n" for value in values]
    headers = (*UVICORN, "content-type: text/event-stream; charset=utf-8", "cache-control: no-store")
    return chunked(headers, (sent[0], _PING, *sent[1:]))


def chunk(delta: object, reason: str | None = None) -> dict[str, object]:
    """One event (modules/api/completions.py:640-660)."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m.gguf",
        "system_fingerprint": None,
        "choices": [{"index": 0, "finish_reason": reason, "delta": delta, "logprobs": None}],
        "usage": None,
    }


ROLE = chunk({"role": "assistant", "refusal": None, "content": ""})
HI, THERE, END = chunk({"content": "Hi"}), chunk({"content": " there"}), chunk({}, "stop")
# :728-751
USAGE = {
    **END,
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
DONE = b"[DONE]"
CHAT = Said(events(ROLE, HI, THERE, END, USAGE, DONE), usage=Usage(9, 2))
UNAUTHORIZED = fastapi({"detail": "Unauthorized"}, "401 Unauthorized")

WIRE = Wire(
    backend="textgen",
    evidence=Evidence.DOCUMENTED,
    gets={
        "/v1/models": fastapi(  # models.py:21-40
            {
                "object": "list",
                "data": [{"id": "m.gguf", "object": "model", "created": 0, "owned_by": "user"}],
            }
        ),
        "/v1/internal/model/info": fastapi({"model_name": "m.gguf", "lora_names": [], "loader": "llama.cpp"}),
        "/v1/internal/health": fastapi({"status": "ok"}),
    },
    unknown=not_found(),
    locked={"/v1/models": UNAUTHORIZED, "/v1/internal/model/info": UNAUTHORIZED},
    models=(ModelInfo("m.gguf"),),
    chat=CHAT,
    whole=Said(
        fastapi(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m.gguf",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "refusal": None, "content": "Hi there"},
                        "logprobs": None,
                    }
                ],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
            }
        ),
        usage=Usage(9, 2),
    ),
    thinking=(
        Said(
            events(ROLE, chunk({"reasoning_content": "hm"}), HI, THERE, END, DONE),
            thinking="hm",
            note="reasoning_content",
        ),
    ),
    tools=(
        Said(  # generation stops at the first call; it comes whole in the last delta (:672-729)
            events(
                ROLE,
                chunk(
                    {
                        "tool_calls": [
                            {
                                "index": 0,
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                            }
                        ]
                    },
                    "tool_calls",
                ),
                DONE,
            ),
            "",
            "toolCalls",
            calls=(("get_weather", '{"city": "Paris"}'),),
            note="whole in the last record",
        ),
    ),
    failures={
        "wrong key": (Failed(UNAUTHORIZED, K.AUTH, "Unauthorized"),),  # script.py:68-77
        "busy": (
            Failed(fastapi_text("Internal Server Error", "500 Internal Server Error"), K.BACKEND, note="500"),
        ),
        # What a handler raises after the headers cuts the stream (script.py:224-239); the request without
        # streaming gets the same answer here, which says nothing either.
        "cut in mid-answer": (Failed(cut_after(CHAT.reply, b'"Hi"'), K.STREAM_TRUNCATED, "", "Hi"),),
    },
)
CUT_AFTER_THE_ROLE = cut_after(CHAT.reply, b'"refusal"')
"""textgen#7585: not a word about why."""
WHY = fastapi(
    # script.py:113-124
    {
        "error": {
            "message": "messages: role 'robot' is not known",
            "type": "invalid_request_error",
            "param": "messages",
            "code": None,
        }
    },
    "400 Bad Request",
)
"""What the same request gets without streaming."""
