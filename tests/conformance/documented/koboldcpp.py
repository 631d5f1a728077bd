"""KoboldCpp v1.115.1 (koboldcpp.py, commit cf28c488257e).

HTTP/1.0 throughout: a stream has no length and no chunks and ends with the connection, although its
header says keep-alive and names the cache twice (handler seen on the wire).
"""

from __future__ import annotations

import json

from ollm_daemon.domain import ModelInfo, Usage
from ollm_daemon.errors import ErrorKind as K
from tests.conformance.evidence import Evidence
from tests.conformance.wire import Failed, Said, Wire, cut_after, with_body
from tests.fakes.upstream import End, Reply

_SERVER = "Server: KoboldCppServer 1 Python/3.11.2"
_DATE = "Date: Sun, 14 Jun 2026 10:00:00 GMT"
_CORS = "Access-Control-Allow-Origin: *"


def document(value: object, status: str = "200 OK") -> Reply:
    """JSON with spaces, from `json.dumps` (koboldcpp.py:6230)."""
    body = json.dumps(value).encode()
    return with_body(status, body, _SERVER, _DATE, _CORS, "content-type: application/json", version="1.0")


def events(*values: object) -> Reply:
    """A stream: both spellings of the cache header, keep-alive, and the end by closing (:5229)."""
    head = [
        "HTTP/1.0 200 OK",
        _SERVER,
        _DATE,
        "X-Accel-Buffering: no",
        "cache-control: no-cache",
        "connection: keep-alive",
        "content-type: text/event-stream",
        "cache-control: no-store",
        "",
        "",
    ]
    sent = (value if isinstance(value, str) else json.dumps(value) for value in values)
    return Reply("\r\n".join(head).encode(), *(f"data: {text}\n\n".encode() for text in sent), End.CLOSE)


def chunk(delta: object, reason: str | None = None, name: str = "chatcmpl-A123456") -> dict[str, object]:
    """One event (:5284): the reason before the delta, the role in every delta."""
    choices = [{"index": 0, "finish_reason": reason, "delta": delta}]
    return _event(name, choices)


def _event(name: str, choices: object, **rest: object) -> dict[str, object]:
    return {
        "id": name,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "koboldcpp/m",
        "choices": choices,
        **rest,
    }


def said(text: str) -> dict[str, object]:
    """A piece of text."""
    return chunk({"role": "assistant", "content": text})


def end(reason: str, name: str = "chatcmpl-A123456") -> dict[str, object]:
    """The chunk with the reason (:5290)."""
    return chunk({"role": "assistant", "content": ""}, reason, name)


# :5584-5593, only for include_usage
USAGE = _event(
    "chatcmpl-A123456",
    [],
    usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
)
DONE = "[DONE]"
VERSION = {
    "result": "KoboldCpp",
    "version": "1.115.1",
    "protected": False,
    "llm": True,
    "txt2img": False,
    "vision": False,
    "audio": False,
    "transcribe": False,
    "multiplayer": False,
    "websearch": False,
    "tts": False,
    "embeddings": False,
    "admin": 0,
    "router": False,
    "jinja": False,
}
_PAGE = b"<html><head><title>404</title></head><body>Not Found</body></html>"
_CALL = {"id": "call_12345", "type": "function", "index": 0}

UNAUTHORIZED = document(
    # :5697-5709
    {
        "detail": {
            "error": "Unauthorized",
            "msg": "Authentication key is missing or invalid.",
            "type": "unauthorized",
        }
    },
    "401 Unauthorized",
)
CHAT = Said(events(said("Hi"), said(" there"), end("stop"), USAGE, DONE), usage=Usage(9, 2))

WIRE = Wire(
    backend="koboldcpp",
    evidence=Evidence.DOCUMENTED,
    gets={
        "/api/extra/version": document(VERSION),  # :1415-1433
        "/v1/models": document(  # :6017-6027
            {
                "object": "list",
                "data": [
                    {
                        "id": "koboldcpp/m",
                        "object": "model",
                        "created": 1,
                        "owned_by": "koboldcpp",
                        "permission": [],
                        "root": "koboldcpp",
                    }
                ],
            }
        ),
        "/api/extra/true_max_context_length": document({"value": 4096}),
        "/ping": document({"status": "healthy"}),
        # It answers like Ollama (:6092-6098) and like llama.cpp (:6156).
        "/api/version": document({"version": "0.7.0"}),
        "/api/tags": document({"models": [{"name": "koboldcpp", "model": "koboldcpp:latest"}]}),
        "/props": document({"chat_template": "", "id_task": 0, "total_slots": 1}),
    },
    # Any other GET: a page (:6560).
    unknown=lambda _: with_body("404 Not Found", _PAGE, _SERVER, "content-type: text/html", version="1.0"),
    # The key guards no GET at all; `protected` tells of it.
    locked={"/api/extra/version": document({**VERSION, "protected": True})},
    locked_state="ready",
    version="1.115.1",
    models=(ModelInfo("koboldcpp/m", context_length=4096, capabilities=("completion", "tools")),),
    chat=CHAT,
    whole=Said(
        # A whole message always has the list of calls.
        document(
            {
                "id": "chatcmpl-A123456",
                "object": "chat.completion",
                "created": 1,
                "model": "koboldcpp/m",
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hi there", "tool_calls": []},
                        "finish_reason": "stop",
                        "logprobs": None,
                    }
                ],
            }
        ),
        usage=Usage(9, 2),
    ),
    thinking=(
        Said(  # :5349-5402
            events(
                chunk({"role": "assistant", "reasoning_content": "hm"}), said("Hi there"), end("stop"), DONE
            ),
            thinking="hm",
            note="reasoning_content",
        ),
    ),
    tools=(
        Said(  # a stream made up after the fact (:7001-7192): no usage
            events(
                chunk({"role": "assistant", "content": None}, name="koboldcpp"),
                chunk(
                    {"tool_calls": [{**_CALL, "function": {"name": "get_weather", "arguments": ""}}]},
                    name="koboldcpp",
                ),
                chunk(
                    {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Paris"}'}}]},
                    name="koboldcpp",
                ),
                chunk({}, "tool_calls", name="koboldcpp"),
                DONE,
            ),
            "",
            "toolCalls",
            calls=(("get_weather", '{"city": "Paris"}'),),
            note="arguments in one piece",
        ),
        Said(  # with jinja tools and an answer of text it ends twice (seen on the wire)
            events(
                said("Hi there"),
                end("stop"),
                USAGE,
                DONE,
                chunk({"role": "assistant"}, name="koboldcpp"),
                end("length", "koboldcpp"),
                DONE,
            ),
            usage=Usage(9, 2),
            note="two ends",
        ),
    ),
    failures={
        "wrong key": (Failed(UNAUTHORIZED, K.AUTH, "Authentication key is missing or invalid"),),
        "busy": (
            Failed(  # :6700-6731
                document(
                    {
                        "detail": {
                            "msg": "Server is busy; please try again later.",
                            "type": "service_unavailable",
                        }
                    },
                    "503 Service Unavailable",
                ),
                K.OVERLOADED,
                "Server is busy",
            ),
        ),
        "error in mid-answer": (
            Failed(events(said("Hi"), end("error"), DONE), K.BACKEND, "stopped", "Hi"),  # :5046
        ),
        "cut in mid-answer": (
            # Closing is its only end, so a cut looks like one.
            Failed(cut_after(CHAT.reply, b'"Hi"'), K.STREAM_TRUNCATED, "broke off", "Hi"),
        ),
        "no answer at all": (
            Failed(document(None), K.STREAM_TRUNCATED, note="null"),  # an exception in a whole answer
            # A message of a wrong shape: closed without a byte (seen on the wire).
            Failed(Reply(End.CLOSE), K.UNREACHABLE, "closed the connection", note="closed"),
        ),
    },
)
