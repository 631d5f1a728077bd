"""Strict JSON: NaN and Infinity refused, nesting bounded by the parser, bytes must be UTF-8.

A lone surrogate escape, which JSON allows and Unicode does not, becomes U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from pydantic_core import from_json


def parse_json(data: bytes | str) -> Any:
    """Decode one JSON value.

    Raises:
        ValueError: It is not JSON; no other exception leaves this function.
    """
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        if "surrogate" not in str(error) and "hex escape" not in str(error):
            raise
    text = data if isinstance(data, str) else data.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        return from_json(_without_surrogates(json.dumps(value, ensure_ascii=False)))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _without_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
