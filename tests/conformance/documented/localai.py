"""LocalAI v4.9.0, commit 82c191a (core/http/endpoints/openai)."""

from __future__ import annotations

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.documented._shapes import compact
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, chunked, cut_after, with_body
from tests.fakes.upstream import Reply

_ECHO = ("Date: Sun, 22 Nov 2026 06:18:31 GMT", "X-Correlation-Id: 5b0e")


def document(value: object, status: str = "200 OK", *headers: str) -> Reply:
    """JSON of Echo, with its line end."""
    return with_body(status, compact(value) + b"\n", *_ECHO, "Content-Type: application/json", *headers)


def text(value: str) -> Reply:
    """Plain text."""
    return with_body("200 OK", value.encode(), *_ECHO, "Content-Type: text/plain; charset=UTF-8")


def events(*values: object) -> Reply:
    """Events in LF."""
    headers = (*_ECHO, "Content-Type: text/event-stream", "Cache-Control: no-cache", "Connection: keep-alive")
    return chunked(headers, tuple(b"data: " + compact(value) + b"\n\n" for value in values))


def chunk(delta: object, reason: str | None = None) -> dict[str, object]:
    """One event (chat.go)."""
    return {
        "created": 1,
        "object": "chat.completion.chunk",
        "id": "7d2f",
        "model": "m",
        "choices": [{"index": 0, "finish_reason": reason, "delta": delta}],
    }


def call(index: int, function: object) -> dict[str, object]:
    """A piece of a call: the answer's own id as the id of every call (chat_stream_workers.go:58-81)."""
    one = {"index": index, "id": "7d2f", "type": "function", "function": function}
    return chunk({"role": "assistant", "tool_calls": [one]})


ROLE = chunk({"role": "assistant", "content": None})
HI, THERE = chunk({"content": "Hi"}), chunk({"content": " there"})
END = chunk({"content": None}, "stop")
# Since 4.4 a trailer of its own (chat.go:664-679).
USAGE = {
    "id": "7d2f",
    "created": 1,
    "model": "m",
    "object": "chat.completion.chunk",
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}
# A model with MCP servers tells of their results (chat.go:578).
FOREIGN = {"type": "mcp_tool_result", "name": "search", "result": "nothing"}
DONE = b"[DONE]"
CHAT = Said(events(ROLE, FOREIGN, HI, THERE, END, USAGE, DONE), usage=Usage(9, 2))
NO_KEY = document(
    # auth/middleware.go:559-583
    {
        "error": {
            "code": 401,
            "message": "An authentication key is required",
            "type": "invalid_request_error",
        }
    },
    "401 Unauthorized",
    "WWW-Authenticate: Bearer",
)
NOT_FOUND = document(
    {"error": {"code": 404, "message": "Resource not found", "type": "invalid_request_error"}},
    "404 Not Found",
)
_PROTECTED = ("/v1/models", "/version", "/api/version", "/api/tags", "/")

WIRE = Wire(
    backend="localai",
    evidence=Evidence.DOCUMENTED,
    gets={
        "/.well-known/localai.json": document({"version": "v4.9.0"}),  # routes/localai.go:289, no key
        "/v1/models": document({"object": "list", "data": [{"id": "m", "object": "model"}]}),
        "/version": document({"version": "v4.9.0 (82c191a)"}),
        # It answers like Ollama (routes/ollama.go:80-85), and with LOCALAI_OLLAMA_API_ROOT_ENDPOINT at its
        # root too (endpoints/ollama/models.go:130).
        "/api/version": document({"version": "0.9.0"}),
        "/api/tags": document({"models": [{"name": "m", "model": "m"}]}),
        "/": text("Ollama is running"),
    },
    unknown=lambda _: NOT_FOUND,
    locked=dict.fromkeys(_PROTECTED, NO_KEY),
    version="v4.9.0 (82c191a)",
    models=(ModelInfo("m"),),
    chat=CHAT,
    whole=Said(
        document(
            {
                "created": 1,
                "object": "chat.completion",
                "id": "7d2f",
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": "Hi there"},
                    }
                ],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
            }
        ),
        usage=Usage(9, 2),
    ),
    thinking=(
        Said(  # v3.10
            events(ROLE, chunk({"reasoning": "hm"}), HI, THERE, END, DONE), thinking="hm", note="reasoning"
        ),
    ),
    tools=(
        Said(
            events(
                ROLE,
                call(0, {"name": "get_weather"}),
                call(0, {"arguments": '{"city": "Paris"}'}),
                call(1, {"name": "get_time"}),
                call(1, {"arguments": "{}"}),
                chunk({"content": None}, "tool_calls"),
                DONE,
            ),
            "",
            "toolCalls",
            calls=(("get_weather", '{"city": "Paris"}'), ("get_time", "{}")),
            note="one id for all",
        ),
    ),
    failures={
        "prompt too long": (
            Failed(  # the backend's text in an error of no kind
                events(
                    {
                        "error": {
                            "code": "server_error",
                            "message": "rpc error: code = Internal desc = request (612 tokens) exceeds the "
                            "available context size (256 tokens), try increasing it",
                            "type": "server_error",
                        }
                    },
                    DONE,
                ),
                K.CONTEXT_LENGTH,
                "612",
            ),
        ),
        "unknown model": (
            Failed(  # middleware/request.go:157-167
                document(
                    {
                        "error": {
                            "code": 404,
                            "message": 'model "x" not found. To see available models, call GET /v1/models',
                            "type": "invalid_request_error",
                        }
                    },
                    "404 Not Found",
                ),
                K.NOT_FOUND,
                'model "x" not found',
            ),
        ),
        "wrong key": (
            Failed(NO_KEY, K.AUTH, "authentication key"),
            Failed(
                with_body("401 Unauthorized", b"", *_ECHO, "WWW-Authenticate: Bearer"),
                K.AUTH,
                note="opaque errors",
            ),
        ),
        "busy": (
            Failed(  # core/http/app.go:66-135
                document(
                    {
                        "error": {
                            "code": "model_loading",
                            "message": "model m is loading",
                            "type": "server_error",
                        },
                        "loading": {"model": "m"},
                    },
                    "503 Service Unavailable",
                    "Retry-After: 5",
                ),
                K.OVERLOADED,
                "loading",
            ),
        ),
        "error in mid-answer": (
            Failed(  # chat.go:505-524, since 4.1
                events(
                    ROLE,
                    HI,
                    {"error": {"code": "server_error", "message": "boom", "type": "server_error"}},
                    DONE,
                ),
                K.BACKEND,
                "boom",
                "Hi",
            ),
            Failed(  # 3.8 to 4.0
                events(ROLE, chunk({"content": "Internal error: boom"}), END, DONE),
                K.BACKEND,
                "boom",
                note="as text",
            ),
        ),
        "cut in mid-answer": (Failed(cut_after(CHAT.reply, b'"Hi"'), K.STREAM_TRUNCATED, "", "Hi"),),
    },
)
