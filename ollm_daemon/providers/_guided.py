"""vLLM's old words for constraints, `guided_*`, lifted out of `extraBody` into the constraint they mean.

They are the words of this project's options too, so every provider takes them and writes the constraint
in the way of its own server. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from ollm_daemon.domain import ChatRequest, ResponseFormat
from ollm_daemon.errors import UnsupportedError

GUIDED: Mapping[str, Literal["jsonSchema", "regex", "choice", "grammar"]] = {
    "guided_json": "jsonSchema",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}


def lift_guided(request: ChatRequest) -> ChatRequest:
    """The request with `guided_*` lifted out of `extra_body` into the constraint they mean.

    Raises:
        UnsupportedError: More than one constraint.
    """
    if not request.options.extra_body:
        return request
    extra = dict(request.options.extra_body)
    given = {key: extra.pop(key, None) for key in GUIDED}
    found = [
        ResponseFormat(kind, _schema(given[key]) if kind == "jsonSchema" else given[key])
        for key, kind in GUIDED.items()
        if given[key] is not None
    ]
    if request.response_format.type != "text":
        found.append(request.response_format)
    # These two are vLLM's own language; nothing is translated.
    own = [key for key in ("structured_outputs", "response_format") if extra.get(key) is not None]
    if len(found) + len(own) > 1:
        raise UnsupportedError(
            "Only one constraint can hold for one answer.",
            hint=f"Keep one of responseFormat, {', '.join(GUIDED)}, structured_outputs, response_format.",
        )
    extra.pop("guided_decoding_backend", None)
    wanted = found[0] if found else ResponseFormat("text")
    options = replace(request.options, extra_body=extra)
    return replace(request, response_format=wanted, options=options)


def _schema(value: Any) -> Any:
    """A JSON Schema, which `guided_json` also took as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise UnsupportedError(
            "guided_json is not a JSON Schema.", hint="Write it as a mapping, or as JSON text."
        ) from None
