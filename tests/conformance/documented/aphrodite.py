"""Aphrodite 0.24.1: a fork of vLLM in every route, with KoboldCpp's beside them."""

from __future__ import annotations

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.documented._shapes import choice, fastapi, fastapi_events, not_found, whole
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, cut_after

ROLE = choice({"role": "assistant", "content": ""})
HI, END = choice({"content": "Hi"}), choice({"content": " there"}, "stop")
COUNTS = {"prompt_tokens": 9, "total_tokens": 11, "completion_tokens": 2}
USAGE = {**END, "choices": [], "usage": COUNTS, "system_fingerprint": "aphrodite-0.24.1-tp1-1a2b3c4d"}
DONE = b"[DONE]"
CHAT = Said(fastapi_events(ROLE, HI, END, USAGE, DONE), usage=Usage(9, 2))
UNAUTHORIZED = fastapi({"error": "Unauthorized"}, "401 Unauthorized")


def bad_request(message: str) -> object:
    """`{"error": ...}` as serve/engine/protocol.py writes it."""
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}


WIRE = Wire(
    backend="aphrodite",
    evidence=Evidence.DOCUMENTED,
    gets={
        "/v1/models": fastapi(  # serve/engine/protocol.py:109
            {
                "object": "list",
                "data": [
                    {
                        "id": "m",
                        "object": "model",
                        "created": 1,
                        "owned_by": "aphrodite",
                        "root": "org/m",
                        "parent": None,
                        "max_model_len": 8192,
                        "permission": [],
                    }
                ],
            }
        ),
        "/version": fastapi({"version": "0.24.1"}),
        # entrypoints/openai/kobold/api_router.py:131-185, open whatever the key
        "/api/v1/model": fastapi({"result": "aphrodite/m"}),
        "/api/extra/version": fastapi({"result": "KoboldCpp", "version": "1.63"}),
        "/api/v1/info/version": fastapi({"result": "1.2.4"}),
    },
    unknown=not_found(),
    locked={"/v1/models": UNAUTHORIZED},
    version="0.24.1",
    models=(ModelInfo("m", context_length=8192),),
    chat=CHAT,
    whole=Said(
        fastapi(whole({"role": "assistant", "content": "Hi there", "reasoning": None}, "stop", COUNTS)),
        usage=Usage(9, 2),
    ),
    thinking=tuple(
        Said(
            fastapi_events(ROLE, choice({name: "hm"}), HI, END, USAGE, DONE),
            thinking="hm",
            usage=Usage(9, 2),
            note=name,
        )
        for name in ("reasoning", "reasoning_content")  # since 0.20, and up to 0.10
    ),
    tools=(
        Said(
            fastapi_events(
                choice(
                    {
                        "tool_calls": [
                            {
                                "id": "chatcmpl-tool-9f",
                                "type": "function",
                                "index": 0,
                                "function": {"name": "get_weather"},
                            }
                        ]
                    }
                ),
                choice({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Paris"}'}}]}),
                choice({"content": ""}, "tool_calls"),
                DONE,
            ),
            "",
            "toolCalls",
            calls=(("get_weather", '{"city": "Paris"}'),),
            note="fragments",
        ),
    ),
    failures={
        "prompt too long": (
            Failed(  # renderers/params.py:216: nothing is clamped
                fastapi(
                    bad_request(
                        "This model's maximum context length is 8192 tokens. However, you requested 1 output "
                        "tokens and your prompt contains at least 8192 input tokens."
                    ),
                    "400 Bad Request",
                ),
                K.CONTEXT_LENGTH,
                "8192",
            ),
        ),
        "unknown model": (
            Failed(
                fastapi(
                    {
                        "error": {
                            "message": "The model `x` does not exist.",
                            "type": "NotFoundError",
                            "param": "model",
                            "code": 404,
                        }
                    },
                    "404 Not Found",
                ),
                K.NOT_FOUND,
                "does not exist",
            ),
        ),
        "wrong key": (Failed(UNAUTHORIZED, K.AUTH, "Unauthorized"),),
        "error in mid-answer": (
            Failed(
                fastapi_events(
                    ROLE,
                    HI,
                    {
                        "error": {
                            "message": "Internal server error",
                            "type": "InternalServerError",
                            "param": None,
                            "code": 500,
                        }
                    },
                    DONE,
                ),
                K.BACKEND,
                "Internal server error",
                "Hi",
            ),
        ),
        "cut in mid-answer": (Failed(cut_after(CHAT.reply, b'"Hi"'), K.STREAM_TRUNCATED, "", "Hi"),),
    },
)
