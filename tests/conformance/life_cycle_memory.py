"""Models loaded into memory and taken out of it: what each server is sent and answers."""

from __future__ import annotations

from ollm_daemon.domain import ModelProgress
from ollm_daemon.errors import ErrorKind
from tests.conformance.captured import OLLAMA_WIRE
from tests.conformance.captured_others import LLAMACPP_WIRE
from tests.conformance.documented import lmstudio, localai, tabbyapi, textgen
from tests.conformance.documented._shapes import fastapi, fastapi_text
from tests.conformance.evidence import Evidence
from tests.conformance.life_cycle import Change, rows
from tests.fakes.captures import LLAMA_CPP, OLLAMA
from tests.fakes.upstream import Reply, body_reply, capture_reply, json_reply

_LOAD = ("POST", "/v1/model/load", {"model_name": "m"})


def _modules(kind: str, module: int, modules: int, status: str) -> dict[str, object]:
    return {"model_type": kind, "module": module, "modules": modules, "status": status}


def _proof(reply: Reply) -> dict[str, tuple[Reply, ...]]:
    """textgen says "OK" in any case (modules/models.py:27, v4.9)."""
    return {"/v1/internal/model/load": (fastapi('"OK"'),), "/v1/completions": (reply,)}


_PROVEN = (
    ("POST", "/v1/internal/model/load", {"model_name": "m"}),
    ("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 1}),
)


def _router(value: str) -> Reply:
    """`GET /models` of a llama.cpp with models to choose from (server-models.cpp, b11434)."""
    return json_reply(
        200, {"object": "list", "data": [{"id": "m", "object": "model", "status": {"value": value}}]}
    )


_ASKED = ("POST", "/models/load", {"model": "m"})
_LOOKED = ("GET", "/models", None)

LOADS = rows(
    (
        "",
        Change(
            OLLAMA_WIRE,
            "load",
            {"/api/generate": (capture_reply(OLLAMA, "generate-load"),)},
            (("POST", "/api/generate", {"model": "m", "shift": False, "options": {}}),),
            evidence=Evidence.CAPTURE,
        ),
    ),
    (
        "unknown",
        Change(
            OLLAMA_WIRE,
            "load",
            {"/api/generate": (capture_reply(OLLAMA, "err-unknown-model-generate"),)},
            (("POST", "/api/generate", {"model": "m", "shift": False, "options": {}}),),
            error=ErrorKind.NOT_FOUND,
            words="not found",
            evidence=Evidence.CAPTURE,
        ),
    ),
    (
        "blocks",
        Change(
            lmstudio.WIRE,
            "load",
            {
                "/api/v1/models/load": (
                    lmstudio.document(
                        {"type": "llm", "instance_id": "m", "load_time_seconds": 9.1, "status": "loaded"}
                    ),
                )
            },
            (("POST", "/api/v1/models/load", {"model": "m"}),),
        ),
    ),
    (
        "events in CRLF",
        Change(
            tabbyapi.WIRE,
            "load",
            {
                "/v1/model/load": (  # core/utils/model.py:82-147: finished once for each type, no end mark
                    tabbyapi.events(
                        _modules("draft", 1, 1, "finished"),
                        _modules("model", 1, 2, "processing"),
                        _modules("model", 2, 2, "finished"),
                    ),
                )
            },
            (_LOAD,),
            (
                ModelProgress("finished draft: 1 of 1"),
                ModelProgress("processing model: 1 of 2"),
                ModelProgress("finished model: 2 of 2"),
            ),
        ),
    ),
    (
        "error under 200",
        Change(
            tabbyapi.WIRE,
            "load",
            {
                "/v1/model/load": (
                    tabbyapi.events(
                        _modules("model", 1, 2, "processing"),
                        {"error": {"message": "CUDA out of memory", "trace": None}},
                    ),
                )
            },
            (_LOAD,),
            error=ErrorKind.BACKEND,
            words="CUDA out of memory",
        ),
    ),
    (
        "cut",
        Change(
            tabbyapi.WIRE,
            "load",
            {"/v1/model/load": (tabbyapi.events(_modules("model", 1, 2, "processing")),)},
            (_LOAD,),
            error=ErrorKind.STREAM_TRUNCATED,
        ),
    ),
    (
        "a key that is not the administrator's",
        Change(
            tabbyapi.WIRE,
            "load",
            {"/v1/model/load": (fastapi({"detail": "Invalid admin key"}, "401 Unauthorized"),)},
            (_LOAD,),
            error=ErrorKind.AUTH,
            words="Invalid admin key",
        ),
    ),
    ("proven", Change(textgen.WIRE, "load", _proof(fastapi({"choices": [{"text": "a"}]})), _PROVEN)),
    (
        "OK, although it failed",
        Change(
            textgen.WIRE,
            "load",
            _proof(fastapi_text("Internal Server Error", "500 Internal Server Error")),
            _PROVEN,
            error=ErrorKind.BACKEND,
            words="500",
        ),
    ),
    (
        "in the background",
        Change(
            LLAMACPP_WIRE,
            "load",
            {
                "/models/load": (json_reply(200, {"success": True}),),
                "/models": (_router("unloaded"), _router("loading"), _router("loaded")),
            },
            (_ASKED, _LOOKED, _LOOKED, _LOOKED),
            (ModelProgress("unloaded"), ModelProgress("loading")),
        ),
    ),
    (
        "failed in the background",
        Change(
            LLAMACPP_WIRE,
            "load",
            {
                "/models/load": (json_reply(200, {"success": True}),),
                "/models": (_router("loading"), _router("unloaded")),
            },
            (_ASKED, _LOOKED, _LOOKED),
            error=ErrorKind.BACKEND,
            words="did not load m",
        ),
    ),
    (
        "with one model",
        Change(
            LLAMACPP_WIRE,
            "load",
            {"/models/load": (capture_reply(LLAMA_CPP, "err-405"),)},
            (_ASKED,),
            error=ErrorKind.UNSUPPORTED,
            words="cannot load",
            evidence=Evidence.UNSUPPORTED,
        ),
    ),
)


UNLOADS = rows(
    (
        "",
        Change(
            OLLAMA_WIRE,
            "unload",
            {
                "/api/generate": (
                    json_reply(200, {"model": "m", "response": "", "done": True, "done_reason": "unload"}),
                )
            },
            (("POST", "/api/generate", {"model": "m", "keep_alive": 0}),),
        ),
    ),
    (
        "an instance",
        Change(
            lmstudio.WIRE,
            "unload",
            {
                "/api/v1/models": (lmstudio.document(lmstudio.MODELS),),
                "/api/v1/models/unload": (lmstudio.document({"instance_id": "qwen:2"}),),
            },
            (("GET", "/api/v1/models", None), ("POST", "/api/v1/models/unload", {"instance_id": "qwen:2"})),
            model="qwen",
        ),
    ),
    (
        "not loaded",
        Change(
            lmstudio.WIRE,
            "unload",
            {"/api/v1/models": (lmstudio.document(lmstudio.MODELS),)},
            (("GET", "/api/v1/models", None),),
            error=ErrorKind.NOT_FOUND,
            words="nomic is not loaded",
            model="nomic",
        ),
    ),
    (
        "",
        Change(
            localai.WIRE,
            "unload",
            {"/backend/shutdown": (body_reply(200, b""),)},
            (("POST", "/backend/shutdown", {"model": "m"}),),
        ),
    ),
    (
        "",
        Change(
            textgen.WIRE,
            "unload",
            {"/v1/internal/model/unload": (fastapi('"OK"'),)},
            (("POST", "/v1/internal/model/unload", {}),),
        ),
    ),
    (
        "",
        Change(
            tabbyapi.WIRE,
            "unload",
            {"/v1/model/unload": (fastapi(None),)},
            (("POST", "/v1/model/unload", {}),),
        ),
    ),
    (
        "",
        Change(
            LLAMACPP_WIRE,
            "unload",
            {"/models/unload": (json_reply(200, {"success": True}),)},
            (("POST", "/models/unload", {"model": "m"}),),
        ),
    ),
)
