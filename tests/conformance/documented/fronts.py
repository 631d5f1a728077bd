"""What stands in front of many vLLMs: production-stack a6c01db, vllm-router 0.1.17, Ray Serve LLM 2.60.

The two routers pass the bytes of a vLLM through; Ray Serve puts several events into one write.
"""

from __future__ import annotations

from dataclasses import replace

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.documented._shapes import (
    UVICORN,
    choice,
    compact,
    fastapi,
    fastapi_events,
    not_found,
    whole,
)
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, chunked, cut_after

ROLE = choice({"role": "assistant", "content": ""})
HI, END = choice({"content": "Hi"}), choice({"content": " there"}, "stop")
COUNTS = {"prompt_tokens": 9, "total_tokens": 11, "completion_tokens": 2}
USAGE = {**END, "choices": [], "usage": COUNTS}
DONE = b"[DONE]"
CHAT = Said(fastapi_events(ROLE, HI, END, USAGE, DONE), usage=Usage(9, 2))
WHOLE = Said(fastapi(whole({"role": "assistant", "content": "Hi there"}, "stop", COUNTS)), usage=Usage(9, 2))
THINKING = tuple(
    Said(fastapi_events(ROLE, choice(delta), HI, END, DONE), thinking="hm", note=note)
    for note, delta in {  # vLLM to 0.11.0, 0.11.1 to 0.15, since 0.16
        "reasoning_content": {"reasoning_content": "hm"},
        "both": {"reasoning": "hm", "reasoning_content": "hm"},
        "reasoning": {"reasoning": "hm"},
    }.items()
)


def _piece(function: object, **rest: object) -> object:
    return choice({"tool_calls": [{**rest, "index": 0, "function": function}]})


TOOLS = (
    Said(
        fastapi_events(
            _piece({"name": "get_weather"}, id="chatcmpl-tool-9f", type="function"),
            _piece({"arguments": '{"city"'}),
            _piece({"arguments": ': "Paris"}'}),
            choice({}, "tool_calls"),
            DONE,
        ),
        "",
        "toolCalls",
        calls=(("get_weather", '{"city": "Paris"}'),),
        note="fragments",
    ),
)
UNAUTHORIZED = fastapi({"error": "Unauthorized"}, "401 Unauthorized")
MID_STREAM = Failed(
    fastapi_events(
        ROLE,
        HI,
        {
            "error": {
                "message": "EngineCore encountered an issue.",
                "type": "InternalServerError",
                "code": 500,
            }
        },
        DONE,
    ),
    K.BACKEND,
    "EngineCore",
    "Hi",
)
CUT = Failed(cut_after(CHAT.reply, b'"Hi"'), K.STREAM_TRUNCATED, "", "Hi")
TOO_LONG = Failed(
    fastapi(
        {
            "error": {
                "message": "This model's maximum context length is 8192 tokens. However, your prompt "
                "contains at least 8193 input tokens, which exceeds this limit even without any output "
                "tokens.",
                "type": "BadRequestError",
                "param": "input_tokens",
                "code": 400,
            }
        },
        "400 Bad Request",
    ),
    K.CONTEXT_LENGTH,
    "8193",
)
_CARD = {"id": "m", "object": "model", "created": 1, "owned_by": "vllm", "root": None, "parent": None}

PRODUCTION_STACK = Wire(
    backend="production-stack",
    evidence=Evidence.DOCUMENTED,
    gets={
        "/v1/models": fastapi({"object": "list", "data": [_CARD]}),  # main_router.py:129: no window
        "/version": fastapi({"version": "0.1.9"}),  # its own
        "/health": fastapi({"status": "healthy"}),
        "/engines": fastapi([{"engine_id": "e-1", "serving_models": ["m"], "created": 1}]),
    },
    unknown=not_found(),
    locked={"/v1/models": UNAUTHORIZED},
    models=(ModelInfo("m"),),
    chat=CHAT,
    whole=WHOLE,
    thinking=THINKING,
    tools=TOOLS,
    failures={
        "prompt too long": (TOO_LONG,),
        "unknown model": (  # services/request_service/request.py:384-691, errors of one word
            Failed(
                fastapi({"error": "Model 'x' not found or vLLM engine is sleeping."}, "404 Not Found"),
                K.NOT_FOUND,
                "Model 'x' not found",
            ),
        ),
        "busy": (
            Failed(
                fastapi({"error": "Model 'm' is temporarily unavailable"}, "503 Service Unavailable"),
                K.OVERLOADED,
                "temporarily unavailable",
            ),
        ),
        "wrong key": (Failed(UNAUTHORIZED, K.AUTH, "Unauthorized"),),
        "error in mid-answer": (MID_STREAM,),
        "cut in mid-answer": (CUT,),
    },
)

VLLM_ROUTER = replace(
    PRODUCTION_STACK,
    backend="vllm-router",
    gets={
        "/v1/models": fastapi({"object": "list", "data": [{**_CARD, "max_model_len": 8192}]}),
        "/version": fastapi({"version": "0.33.0"}),
        "/health": fastapi(""),
    },
    known_as="vllm",  # nothing of its own shows
    version="0.33.0",
    models=(ModelInfo("m", context_length=8192),),
    failures={name: PRODUCTION_STACK.failures[name] for name in ("prompt too long", "wrong key")}
    | {"error in mid-answer": (MID_STREAM,), "cut in mid-answer": (CUT,)},
)


def _in_bursts(*values: object) -> Said:
    """Several events in one write."""
    data = b"".join(b"data: " + compact(value) + b"\n\n" for value in values)
    headers = (*UVICORN, "content-type: text/event-stream")
    return Said(chunked(headers, (data[:200], data[200:])), usage=Usage(9, 2))


RAY_SERVE = Wire(
    backend="ray-serve",
    evidence=Evidence.DOCUMENTED,
    gets={
        "/v1/models": fastapi(  # core/configs/openai_api_models.py:323
            {
                "object": "list",
                "data": [
                    {
                        "id": "m",
                        "object": "model",
                        "owned_by": "organization-owner",
                        "permission": [],
                        "metadata": {"model_id": "m", "max_request_context_length": 8192},
                    }
                ],
            }
        ),
    },
    unknown=not_found(),
    models=(ModelInfo("m", context_length=8192),),
    chat=_in_bursts(ROLE, HI, END, USAGE, DONE),
    whole=WHOLE,
    thinking=THINKING[-1:],
    tools=TOOLS,
    failures={
        "prompt too long": (
            Failed(  # the engine's error inside its own; the first chunk is peeked at (ingress.py:479-507)
                fastapi(
                    {
                        "error": {
                            "message": "Message: This model's maximum context length is 8192 tokens., "
                            "Internal exception: VLLMValidationError, (Request ID: 1)",
                            "type": "BadRequestError",
                            "param": None,
                            "code": 400,
                        }
                    },
                    "400 Bad Request",
                ),
                K.CONTEXT_LENGTH,
                "8192",
            ),
        ),
        "unknown model": (
            Failed(  # ingress.py:343
                fastapi(
                    {"detail": 'Got request for model "x". It is not found. Available models: m'},
                    "404 Not Found",
                ),
                K.NOT_FOUND,
                'model "x"',
            ),
        ),
        "busy": (
            Failed(  # constants.py:78, after 600 s
                fastapi({"detail": "Request server side timeout"}, "408 Request Timeout"),
                K.BACKEND,
                "timeout",
                note="408",
            ),
        ),
        "error in mid-answer": (MID_STREAM,),
        "cut in mid-answer": (CUT,),
    },
)
