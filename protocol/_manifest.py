"""The settings of the VS Code extension, from the same models as those of the daemon. Pure.

In `package.json` and `package.nls.json` everything whose id or key begins with `generated.` is written here;
the rest is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.alias_generators import to_snake

from ollm_daemon.config.trust import OWN_KEYS
from ollm_daemon.domain import CompletionSettings

Schema = dict[str, Any]

SECTIONS = {
    "models": ("Models", ("provider", "model", "providers", "aliases", "fallbacks")),
    "completion": ("Text at the Cursor", ("completion",)),
    "options": ("Sampling", ("options",)),
    "privacy": ("Privacy", ("privacy",)),
}
"""Sections of the settings editor: id → title and the keys of the settings in it."""
SECRETS = ("apiKey", "clientKey")
"""Fields of a provider that have no place in settings.json: VS Code keeps keys in its secret storage."""
ROUTING = ("provider", "providers", "aliases", "options.extraBody")
"""What decides, beside the user's own keys, where prompts go: an untrusted workspace is not heard on it."""
SENDING = ("completion.enabled", "completion.languages")
"""What decides whether anything goes anywhere without being asked for; neither is it heard on that."""
MARK = "generated."

_FLAT = ("completion", "options", "privacy")
"""Objects whose fields are settings of their own."""


def manifest(text: str, schema: Schema) -> Schema:
    """`package.json` with the settings of today."""
    package = json.loads(text)
    sections = [
        section
        for section in package["contributes"]["configuration"]
        if not section.get("id", "").startswith(MARK)
    ]
    for order, (name, (_, keys)) in enumerate(SECTIONS.items(), 1):
        properties = {
            f"ollm.{key}": _setting(key, setting) for key, setting in _settings(schema) if _top(key) in keys
        }
        title = f"%{MARK}{name}%"
        sections.append({"id": f"{MARK}{name}", "title": title, "order": order, "properties": properties})
    package["contributes"]["configuration"] = sections
    untrusted = package["capabilities"]["untrustedWorkspaces"]
    known = [key for key, _ in _settings(schema)]
    untrusted["restrictedConfigurations"] = [f"ollm.{key}" for key in known if _decides_routes(key)]
    return dict(package)


def manifest_words(text: str, schema: Schema) -> dict[str, str]:
    """`package.nls.json`: what translators translate."""
    words = {key: word for key, word in json.loads(text).items() if not key.startswith(MARK)}
    words |= {f"{MARK}{name}": title for name, (title, _) in SECTIONS.items()}
    words |= {f"{MARK}{key}": setting["description"] for key, setting in _settings(schema)}
    return words


def _settings(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every setting by its key, without references."""
    definitions = schema["definitions"]
    for key, setting in schema["properties"].items():
        plain = _inlined(setting, definitions)
        if key in _FLAT:
            yield from ((f"{key}.{name}", field) for name, field in plain["properties"].items())
        else:
            yield key, plain


def _inlined(node: Any, definitions: Mapping[str, Schema]) -> Any:
    """VS Code reads no references in a manifest."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    inherited: Schema = {}
    for part in [node, *node.get("allOf", ())]:
        if "$ref" in part:
            inherited |= _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    own = {key: value for key, value in node.items() if key not in ("$ref", "allOf", "title")}
    merged = {**inherited, **own}
    properties = merged.pop("properties", None)
    plain = {key: _inlined(value, definitions) for key, value in merged.items()}
    if properties is not None:
        fields = properties.items()
        plain["properties"] = {
            name: _inlined(field, definitions) for name, field in fields if name not in SECRETS
        }
    return plain


def _setting(key: str, schema: Schema) -> Schema:
    """One setting as VS Code takes it. What has no value of its own is `null`, or an empty text."""
    described = {"markdownDescription": f"%{MARK}{key}%"}
    scope = "application" if key.startswith(OWN_KEYS) else "window"
    shape = {name: value for name, value in schema.items() if name not in ("description", "default")}
    default = _default(key, schema)
    if default is None and schema["type"] in ("integer", "number", "boolean"):
        shape["type"] = [schema["type"], "null"]
    if default == "":
        shape.pop("minLength", None)
    return {**described, "scope": scope, **shape, "default": default}


def _default(key: str, schema: Schema) -> Any:
    top, _, field = key.partition(".")
    if top == "completion":
        value = getattr(CompletionSettings(), to_snake(field))
        if value is not None:
            return dict(value) if isinstance(value, Mapping) else value
    empty = {"object": {}, "array": [], "string": ""}
    return schema.get("default", empty.get(schema["type"]))


def _decides_routes(key: str) -> bool:
    return key in (*ROUTING, *SENDING) or key.startswith(OWN_KEYS)


def _top(key: str) -> str:
    return key.partition(".")[0]
