"""Lists of models, in the shapes that servers of OpenAI's dialect have for them. Pure.

Capabilities are told in Ollama's words, so that a client needs one vocabulary. What a server does not
tell stays `None`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ollm_daemon.domain import ModelInfo
from ollm_daemon.providers._json import value_at
from ollm_daemon.providers.base import count, text_of
from ollm_daemon.providers.facts import ModelListShape


def decode_models(document: Any, shape: ModelListShape) -> list[ModelInfo] | None:
    """The models of a list; `None` when the document is no list of that shape."""
    key, read = _SHAPES[shape]
    if not isinstance(document, dict) or key not in document:
        return None
    entries = document[key]
    if not isinstance(entries, list):
        return []  # null on Ollama's /v1 when it has no model
    return [model for entry in entries if isinstance(entry, dict) for model in read(entry)]


def _openai(entry: dict[str, Any]) -> Iterator[ModelInfo]:
    """`/v1/models`, with what vLLM, llama.cpp and Ray Serve add to it."""
    name = text_of(entry.get("id"))
    if not name:
        return
    window = (
        count(entry.get("max_model_len"))  # vLLM and Aphrodite; null for an adapter
        or count(value_at(entry, ("meta", "n_ctx")))  # llama.cpp
        or count(value_at(entry, ("metadata", "max_request_context_length")))  # Ray Serve
    )
    state = text_of(value_at(entry, ("status", "value")))  # llama.cpp with models to choose from
    yield ModelInfo(
        id=name,
        context_length=window,
        max_context_length=count(value_at(entry, ("meta", "n_ctx_train"))),
        size_bytes=count(value_at(entry, ("meta", "size"))),
        loaded=None if state is None else state in ("loaded", "sleeping"),
    )


def _lmstudio_v1(entry: dict[str, Any]) -> Iterator[ModelInfo]:
    """`/api/v1/models` of LM Studio (0.4)."""
    name = text_of(entry.get("key"))
    if not name:
        return
    instances = entry.get("loaded_instances")
    loaded = bool(instances) if isinstance(instances, list) else None
    able = entry.get("capabilities")
    able = able if isinstance(able, dict) else {}
    yield ModelInfo(
        id=name,
        context_length=count(value_at(entry, ("loaded_instances", 0, "config", "context_length"))),
        max_context_length=count(entry.get("max_context_length")),
        size_bytes=count(entry.get("size_bytes")),
        parameter_size=text_of(entry.get("params_string")),
        quantization=text_of(value_at(entry, ("quantization", "name"))),
        capabilities=_capabilities(
            embedding=entry.get("type") == "embedding",
            tools=bool(able.get("trained_for_tool_use")),
            vision=bool(able.get("vision")),
            thinking=bool(able.get("reasoning")),
        ),
        loaded=loaded,
    )


def _lmstudio_v0(entry: dict[str, Any]) -> Iterator[ModelInfo]:
    """`/api/v0/models` of LM Studio (0.3.6)."""
    name = text_of(entry.get("id"))
    if not name:
        return
    able = entry.get("capabilities")
    state = text_of(entry.get("state"))
    yield ModelInfo(
        id=name,
        context_length=count(entry.get("loaded_context_length")),
        max_context_length=count(entry.get("max_context_length")),
        quantization=text_of(entry.get("quantization")),
        capabilities=_capabilities(
            embedding=entry.get("type") == "embeddings",
            tools=isinstance(able, list) and "tool_use" in able,
            vision=entry.get("type") == "vlm",
        ),
        loaded=None if state is None else state == "loaded",
    )


def _capabilities(*, embedding: bool, **has: bool) -> tuple[str, ...]:
    return ("embedding",) if embedding else ("completion", *(name for name, there in has.items() if there))


_SHAPES: Mapping[ModelListShape, tuple[str, Callable[[dict[str, Any]], Iterator[ModelInfo]]]] = {
    "openai": ("data", _openai),
    "lmstudio-v1": ("models", _lmstudio_v1),
    "lmstudio-v0": ("data", _lmstudio_v0),
}
