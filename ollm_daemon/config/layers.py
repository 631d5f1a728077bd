"""One layer: raw data from one place, checked against the options, with the lines it stands on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from ollm_daemon.config.options import Options
from ollm_daemon.config.settings import ConfigProblem
from ollm_daemon.domain import Origin

UNTRUSTED = frozenset({"workspace file", "editor workspace settings"})
"""Layers that a repository may have written."""
MAX_PROBLEMS = 20
"""Problems of one kind that are told about one layer; a file may hold thousands."""
SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Layer:
    """Options of one place.

    Attributes:
        values: Dotted key → value, for every value the layer sets; `extraBody` is one value.
    """

    name: str
    source: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[ConfigProblem, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether the user, and not a repository, wrote it."""
        return self.name not in UNTRUSTED

    @property
    def broken(self) -> bool:
        """Whether nothing in it counts because of an error."""
        return any(problem.severity == "error" for problem in self.problems)

    def origin(self, key: str) -> Origin:
        """Origin of one of its values."""
        return Origin(self.name, self.source, self.lines.get(key))


def make_layer(name: str, data: Any, *, source: str = "", lines: Mapping[str, int] | None = None) -> Layer:
    """Check `data` and make a layer of it; a layer with an error keeps no values."""
    lines = lines or {}

    def problem(severity: Any, key: str, message: str, hint: str = "") -> ConfigProblem:
        return ConfigProblem(severity, message, hint, shown_key(key), source or name, line_of(lines, key))

    if data is None:
        return Layer(name, source)
    if not isinstance(data, Mapping):
        return Layer(name, source, problems=(problem("error", "", "settings must be a mapping of keys."),))
    warnings = [
        problem("warning", key, f"unknown setting `{shown_key(key)}` is ignored.", hint)
        for key, hint in islice(_unknown_keys(data, Options, ""), MAX_PROBLEMS)
    ]
    try:
        options = Options.model_validate(data)
    except ValidationError as error:
        errors = []
        items = error.errors(include_input=False, include_url=False, include_context=False)
        for item in items[:MAX_PROBLEMS]:
            key = ".".join(str(part) for part in item["loc"])
            message = item["msg"].removeprefix("Value error, ")
            errors.append(problem("error", key, f"`{shown_key(key)}`: {message[:1].lower()}{message[1:]}."))
        return Layer(name, source, problems=(*errors, *warnings))
    values = dict(_flatten(options, ""))
    return Layer(name, source, values, lines, tuple(warnings))


def _flatten(model: BaseModel, path: str) -> Iterator[tuple[str, Any]]:
    """Every value that was set, by dotted camelCase key."""
    for name in model.model_fields_set:
        field_info = type(model).model_fields[name]
        key = f"{path}{field_info.alias or name}"
        value = getattr(model, name)
        if value is None:
            continue
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{key}.")
        elif isinstance(value, dict) and name in ("providers", "headers", "aliases", "fallbacks"):
            for inner, item in value.items():
                if isinstance(item, BaseModel):
                    # An empty mapping still names a provider.
                    yield f"{key}.{inner}", None
                    yield from _flatten(item, f"{key}.{inner}.")
                else:
                    yield f"{key}.{inner}", item
        else:
            yield key, value


def _unknown_keys(data: Any, model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    """Keys no model knows, each with the nearest known one as a hint."""
    if not isinstance(data, Mapping):
        return
    known = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
    for key, value in data.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
            yield f"{path}{key}", f"Did you mean `{path}{near[0]}`?" if near else ""
            continue
        inner = _model_in(known[key])
        if inner is None:
            continue
        if key == "providers" and isinstance(value, Mapping):
            for name, item in value.items():
                yield from _unknown_keys(item, inner, f"{path}{key}.{name}.")
        else:
            yield from _unknown_keys(value, inner, f"{path}{key}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def line_of(lines: Mapping[str, int], key: str) -> int | None:
    """Line of a key, or of the nearest key above it."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def shown_key(key: str) -> str:
    """A key as it may be shown: anybody may have written it, so it is short and all of it is visible."""
    visible = key if key.isprintable() else key.encode("unicode_escape").decode()
    return visible if len(visible) <= SHOWN_CHARACTERS else f"{visible[:SHOWN_CHARACTERS]}…"


def shown(key: str, value: Any) -> Any:
    """A value as it may be shown: secrets and header values masked."""
    if isinstance(value, SecretStr):
        return "***"
    return value
