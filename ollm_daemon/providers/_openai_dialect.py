"""Requests in OpenAI's chat dialect, as each server understands it: one body for one backend. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ollm_daemon.domain import (
    ChatRequest,
    GenerationOptions,
    Message,
    ResponseFormat,
    TextPart,
    Tool,
)
from ollm_daemon.errors import UnsupportedError
from ollm_daemon.providers.backends import DEFAULT_MAX_TOKENS
from ollm_daemon.providers.facts import Backend, FormatEncoding

_OPTIONS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "seed",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_STRUCTURED_KEY = {"json": "json_object", "jsonSchema": "json"}
"""Keys of vLLM's `structured_outputs` that are not spelled as our types are (0.32)."""
_GBNF_JSON = r"""root ::= value
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (string ws ":" ws value ws ("," ws string ws ":" ws value ws)*)? "}"
array ::= "[" ws (value ws ("," ws value ws)*)? "]"
string ::= "\"" ([^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
ws ::= [ \t\n]*
"""
"""Any JSON (RFC 8259) as a grammar of llama.cpp, for servers that know no other constraint."""


def encode_chat(request: ChatRequest, backend: Backend) -> dict[str, Any]:
    """The body of `POST /v1/chat/completions`. Keys without a value are left out, never null.

    Raises:
        UnsupportedError: The backend cannot do what the request asks.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": encode_messages(request.messages),
        "stream": request.stream,
    }
    if request.stream and backend.sends_usage:
        body["stream_options"] = {"include_usage": True}
    body.update(encode_options(request.options, backend))
    if request.tools:
        body.update(_encode_tools(request, backend))
    body.update(encode_format(request.response_format, backend))
    body.update(request.options.extra_body)
    return body


def encode_options(options: GenerationOptions, backend: Backend) -> dict[str, Any]:
    """Sampling options under the backend's names, without those it refuses.

    Raises:
        UnsupportedError: Probabilities are wanted and the backend tells none.
    """
    values: dict[str, Any] = {}
    for name in _OPTIONS:
        value = getattr(options, name)
        if value is not None and name not in backend.unsupported:
            values[backend.renamed.get(name, name)] = value
    if backend.requires_max_tokens:
        values.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
    stop = [text for text in options.stop if text]
    if stop:
        values["stop"] = stop[: backend.max_stop]
    if options.top_logprobs is not None:
        if not backend.logprobs:
            raise UnsupportedError(
                f"{backend.title_first} tells no probabilities.", hint="Leave out topLogprobs."
            )
        values.update(logprobs=True, top_logprobs=options.top_logprobs)
    return values


def stops_left(options: GenerationOptions, backend: Backend) -> list[str]:
    """Stop strings beyond those the backend takes, which have to be watched for here."""
    stop = [text for text in options.stop if text]
    return [] if backend.max_stop is None else stop[backend.max_stop :]


def encode_format(wanted: ResponseFormat, backend: Backend) -> dict[str, Any]:
    """The keys that constrain the answer on this backend.

    Raises:
        UnsupportedError: The backend would ignore the constraint.
    """
    if wanted.type == "text":
        return {}
    route = backend.formats.get(wanted.type)
    if route is None:
        known = ", ".join(sorted(backend.formats)) or "none"
        raise UnsupportedError(
            f"{backend.title_first} cannot constrain an answer by {wanted.type}.",
            hint=f"It can do: {known}.",
        )
    return {route.key: _FORMAT_ENCODINGS[route.encoding](wanted)}


def _named_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _structured(wanted: ResponseFormat) -> dict[str, Any]:
    return {_STRUCTURED_KEY.get(wanted.type, wanted.type): wanted.value}


def _choice_grammar(wanted: ResponseFormat) -> str:
    return "root ::= " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in wanted.value)


def _choice_pattern(wanted: ResponseFormat) -> str:
    return "|".join(re.escape(choice) for choice in wanted.value)


_FORMAT_ENCODINGS: Mapping[FormatEncoding, Callable[[ResponseFormat], Any]] = {
    "json_object": lambda wanted: {"type": "json_object"},
    "json": lambda wanted: {"type": "json"},
    "json_schema": lambda wanted: _named_schema(wanted.value),
    "object_schema": lambda wanted: _named_schema({"type": "object"}),
    "structured": _structured,
    "verbatim": lambda wanted: wanted.value,
    "choice_gbnf": _choice_grammar,
    "choice_regex": _choice_pattern,
    "json_gbnf": lambda wanted: _GBNF_JSON,
}


def encode_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A conversation."""
    return [_encode_message(message) for message in messages]


def _encode_message(message: Message) -> dict[str, Any]:
    encoded: dict[str, Any] = {"role": message.role}
    if isinstance(message.content, str) or not message.images:
        encoded["content"] = message.text  # templates of many servers take nothing else
    else:
        encoded["content"] = [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {
                "type": "image_url",
                "image_url": {"url": f"data:{part.media_type};base64,{part.data}"},
            }
            for part in message.content
        ]
    if message.tool_calls:
        encoded["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        encoded["tool_call_id"] = message.tool_call_id
    return encoded


def encode_tool(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI and Ollama both take it."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": dict(tool.parameters),
        },
    }


def _encode_tools(request: ChatRequest, backend: Backend) -> dict[str, Any]:
    """The tools, and which of them may or must be called.

    Where a server cannot be told to call one tool by its name, that tool alone is offered, and required.

    Raises:
        UnsupportedError: The backend has no tools.
    """
    if not backend.tools:
        raise UnsupportedError(
            f"{backend.title_first} has no tool calling.", hint="Choose another provider for tools."
        )
    tools, choice = request.tools, request.tool_choice
    named = choice not in (None, "auto", "none", "required")
    if named and not backend.names_tools:
        tools, choice, named = (
            tuple(tool for tool in tools if tool.name == choice) or tools,
            "required",
            False,
        )
    encoded: dict[str, Any] = {"tools": [encode_tool(tool) for tool in tools]}
    if choice:
        encoded["tool_choice"] = {"type": "function", "function": {"name": choice}} if named else choice
    return encoded
