"""LM Studio 0.4, which is closed: its documentation (lmstudio-ai/docs c6854fb) and its bug tracker."""

from __future__ import annotations

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.documented._shapes import compact
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, chunked, cut_after, with_body
from tests.fakes.upstream import Reply, Request

_EXPRESS = ("X-Powered-By: Express", "Date: Sun, 22 Nov 2026 06:18:31 GMT", "Connection: keep-alive")


def document(value: object, status: str = "200 OK") -> Reply:
    """JSON of Express."""
    return with_body(status, compact(value), *_EXPRESS, "Content-Type: application/json; charset=utf-8")


def events(*values: object) -> Reply:
    """Events; the type has no charset (bug-tracker #764). Bytes that begin with `event:` are taken whole."""
    pieces = (
        value if isinstance(value, bytes) and value.startswith(b"event:") else b"data: " + compact(value)
        for value in values
    )
    headers = (*_EXPRESS, "Content-Type: text/event-stream", "Cache-Control: no-cache")
    return chunked(headers, tuple(piece + b"\n\n" for piece in pieces))


def chunk(delta: object, reason: str | None = None, **rest: object) -> dict[str, object]:
    """One event (bug-tracker #378): the role in every chunk."""
    return {
        "id": "chatcmpl-ohpd6q3xm",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "qwen",
        "system_fingerprint": "qwen",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
        **rest,
    }


def said(text: str) -> dict[str, object]:
    """A piece of text."""
    return chunk({"role": "assistant", "content": text})


def call(function: object, **rest: object) -> dict[str, object]:
    """A piece of a call (openai-compat/tools.mdx:1029-1042)."""
    return chunk({"role": "assistant", "tool_calls": [{"index": 0, **rest, "function": function}]})


def unexpected(request: Request) -> Reply:
    """200 to whatever it does not know (bug-tracker #618, #1323, #2085)."""
    return document({"error": f"Unexpected endpoint or method. ({request.method} {request.path})"})


DONE = b"[DONE]"
END = chunk({}, "stop")
# include_usage, since 0.3.18
USAGE = {**END, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}
CHAT = Said(events(said("Hi"), said(" there"), END, USAGE, DONE), usage=Usage(9, 2))
TOO_LONG = (
    "Input does not fit in context length. The input has 31430 tokens, but the context length only "
    "supports 30000 tokens."
)
TOO_LONG_BEFORE = (
    "Trying to keep the first 31430 tokens when context the overflows. However, the model is loaded with "
    "context length of only 30000 tokens, which is not enough."
)


def error_event(text: str) -> bytes:
    """A failure in a stream: 200 and an event of its own (0.4.21: bug-tracker #2322)."""
    return b"event: error\ndata: " + compact({"error": {"message": text}, "message": text})


NO_KEY = document(
    # opencode-lmstudio#41
    {
        "error": {
            "type": "invalid_request",
            "code": "invalid_api_key",
            "message": "An LM Studio API token is required to make requests to this server, but none was "
            "provided.",
        }
    },
    "401 Unauthorized",
)
_LOADED = {
    "type": "llm",
    "publisher": "qwen",
    "key": "qwen",
    "display_name": "Qwen",
    "architecture": "qwen3",
    "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
    "size_bytes": 5_000_000,
    "params_string": "4B",
    "loaded_instances": [{"id": "qwen:2", "config": {"context_length": 4096}}],
    "max_context_length": 32768,
    "format": "gguf",
    "capabilities": {"vision": False, "trained_for_tool_use": True, "reasoning": {"allowed_options": ["on"]}},
}
MODELS = {"models": [_LOADED, {**_LOADED, "key": "nomic", "type": "embedding", "loaded_instances": []}]}
"""`GET /api/v1/models` (rest/list.md, 0.4)."""
MODELS_V0 = {  # rest/endpoints.mdx, 0.3.6
    "object": "list",
    "data": [
        {
            "id": "qwen-vl",
            "object": "model",
            "type": "vlm",
            "publisher": "qwen",
            "arch": "qwen2_vl",
            "compatibility_type": "gguf",
            "quantization": "Q4_K_M",
            "state": "loaded",
            "max_context_length": 32768,
            "loaded_context_length": 4096,
            "capabilities": ["tool_use"],
        }
    ],
}

WIRE = Wire(
    backend="lmstudio",
    evidence=Evidence.DOCUMENTED,
    gets={
        # lmstudio.js, LMStudioClient.ts:193-201
        "/lmstudio-greeting": document({"lmstudio": True}),
        "/v1/models": document(
            {
                "data": [{"id": "qwen", "object": "model", "owned_by": "organization_owner"}],
                "object": "list",
            }
        ),
        "/api/v1/models": document(MODELS),
    },
    unknown=unexpected,
    locked=dict.fromkeys(("/v1/models", "/api/v1/models"), NO_KEY),
    models=(
        ModelInfo(
            "qwen", 4096, 32768, 5_000_000, "4B", "Q4_K_M", ("completion", "tools", "thinking"), loaded=True
        ),
        ModelInfo("nomic", None, 32768, 5_000_000, "4B", "Q4_K_M", ("embedding",), loaded=False),
    ),
    chat=CHAT,
    whole=Said(
        document(
            {
                "id": "chatcmpl-ohpd6q3xm",
                "object": "chat.completion",
                "created": 1,
                "model": "qwen",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hi there", "tool_calls": []},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
                "stats": {},
                "system_fingerprint": "qwen",
            }
        ),
        usage=Usage(9, 2),
    ),
    thinking=tuple(
        Said(events(*pieces, said("Hi there"), END, DONE), thinking="hm", note=note)
        for note, pieces in {
            # api-changelog: 0.3.9 with a developer setting; gpt-oss since 0.3.23; neither (#894).
            "reasoning_content": (chunk({"role": "assistant", "reasoning_content": "hm"}),),
            "reasoning": (chunk({"role": "assistant", "reasoning": "hm"}),),
            "inline": (said("<think>"), said("hm"), said("</think>\n\n")),
        }.items()
    ),
    tools=(
        Said(
            events(
                call({"name": "get_weather", "arguments": ""}, id="365174485", type="function"),
                call({"name": None, "arguments": '{"city"'}, id=None),
                call({"name": "", "arguments": ': "Paris"}'}),
                chunk({}, "tool_calls"),
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
            Failed(events(error_event(TOO_LONG)), K.CONTEXT_LENGTH, "31430", note="an event, 0.4.21"),
            Failed(document({"error": TOO_LONG}, "400 Bad Request"), K.CONTEXT_LENGTH, "30000", note="400"),
            Failed(events(error_event(TOO_LONG_BEFORE)), K.CONTEXT_LENGTH, "only 30000", note="before"),
        ),
        "unknown model": (
            Failed(
                document(
                    {
                        "error": {
                            "message": 'Model "x" not found. Please load it first.',
                            "type": "invalid_request_error",
                            "param": "model",
                            "code": "model_not_found",
                        }
                    },
                    "404 Not Found",
                ),
                K.NOT_FOUND,
                "not found",
            ),
            Failed(
                document(
                    {"error": 'Invalid model identifier "x". Please specify a valid downloaded model'},
                    "400 Bad Request",
                ),
                K.NOT_FOUND,
                "Invalid model identifier",
                note="text",
            ),
        ),
        "wrong key": (Failed(NO_KEY, K.AUTH, "token is required"),),
        "error in mid-answer": (
            Failed(events(said("Hi"), error_event("The model has crashed.")), K.BACKEND, "crashed", "Hi"),
            Failed(  # #2218: the engine's own error inside the text
                document(
                    {
                        "error": {
                            "message": 'Engine protocol predict request returned 500: {"error":{"code":500,'
                            '"message":"out of memory","type":"server_error"}}'
                        }
                    },
                    "500 Internal Server Error",
                ),
                K.BACKEND,
                "out of memory",
                note="nested",
            ),
        ),
        "cut in mid-answer": (Failed(cut_after(CHAT.reply, b'"Hi"'), K.STREAM_TRUNCATED, "", "Hi"),),
        "no answer at all": (
            # A wrong base URL is a 200 too.
            Failed(
                document({"error": "Unexpected endpoint or method. (POST /v2/chat/completions)"}),
                K.PROTOCOL,
                "Unexpected endpoint",
                note="200 for any path",
            ),
        ),
    },
)
