"""JSON Schema to TypeScript and to the tables of SPEC.md. Pure."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from ollm_daemon.errors import RETRYABLE
from ollm_daemon.protocol import PROTOCOL_VERSION
from ollm_daemon.protocol.methods import ERROR_CODES, ERROR_KINDS, METHODS
from protocol._schemas import NOTICE, Schema, error_names

_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "minItems": "at least {} of them",
    "minLength": "not empty",
}


def ts_type(schema: Schema) -> str:
    """A schema as a TypeScript type."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    if union := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(map(ts_type, union))
    match schema.get("type"):
        case "array":
            item = ts_type(schema["items"])
            return f"({item})[]" if " | " in item else f"{item}[]"
        case "object":
            values = schema.get("additionalProperties")
            return f"Record<string, {ts_type(values) if isinstance(values, dict) else 'unknown'}>"
        case "integer" | "number":
            return "number"
        case "string" | "boolean" as name:
            return str(name)
    return "unknown"


def fields(schema: Schema) -> list[tuple[str, str, str]]:
    """Name with `?` if it may be left out, TypeScript type, and meaning of each field."""
    required = schema.get("required", ())
    return [
        (name if name in required else f"{name}?", ts_type(part), meaning(part))
        for name, part in schema["properties"].items()
    ]


def meaning(schema: Schema) -> str:
    """Description and limits."""
    texts = [schema["description"]] if "description" in schema else []
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    return " ".join([*texts, *([f"{', '.join(limits).capitalize()}."] if limits else [])])


def ts_module(definitions: Mapping[str, Schema]) -> str:
    """`protocol.gen.ts`."""
    codes = [
        line
        for name, code in error_names().items()
        for line in (*_ts_doc(ERROR_CODES[code], "  "), f"  {name}: {code},")
    ]
    types = [
        line
        for name, schema in definitions.items()
        for line in (*_ts_doc(schema.get("description", "")), *_ts_declaration(name, schema), "")
    ]
    requests, notifications = [], []
    for method in METHODS.values():
        params = method.params.__name__
        if method.result:
            type_ = f"{{ params: {params}; result: {method.result.__name__} }}"
            requests += [*_ts_doc(method.summary, "  "), f'  "{method.name}": {type_};']
        else:
            notifications += [*_ts_doc(method.summary, "  "), f'  "{method.name}": {params};']
    return "\n".join(
        [
            f"// {NOTICE}\n",
            f'export const PROTOCOL_VERSION = "{PROTOCOL_VERSION}";\n',
            *["/** Codes of error responses. */", "export const ERROR_CODES = {", *codes, "} as const;\n"],
            "export type ErrorCode = (typeof ERROR_CODES)[keyof typeof ERROR_CODES];\n",
            *types,
            *["/** Requests of the client. */", "export interface Requests {", *requests, "}\n"],
            *["/** Notifications of the daemon. */", "export interface Notifications {", *notifications],
            "}\n",
        ]
    )


def _ts_declaration(name: str, schema: Schema) -> list[str]:
    if schema.get("properties") == {}:
        return [f"export type {name} = Record<string, never>;"]
    if "properties" not in schema:
        type_ = ts_type(schema)
        parts = "".join(f"\n  | {part}" for part in type_.split(" | "))
        return [f"export type {name} = {type_};" if len(type_) <= 80 else f"export type {name} ={parts};"]
    lines = [f"export interface {name} {{"]
    for field, type_, text in fields(schema):
        lines += [*_ts_doc(text, "  "), f"  {field}: {type_};"]
    return [*lines, "}"]


def _ts_doc(text: str, indent: str = "") -> list[str]:
    if len(text) <= 90:
        return [f"{indent}/** {text} */"] if text else []
    return [f"{indent}/**", *(f"{indent} * {line}" for line in textwrap.wrap(text, 90)), f"{indent} */"]


def fill_spec(spec: str, definitions: Mapping[str, Schema]) -> str:
    """The text with every table between `<!-- generated: … -->` and `<!-- end -->` made anew."""
    deltas = [definitions[ts_type(part)] for part in definitions["Delta"]["oneOf"]]
    tables = {
        "methods": _table(
            ("Method", "Sender", "Params", "Answer", "Since", "Meaning"),
            (
                (
                    f"`{method.name}`",
                    method.sender,
                    f"`{method.params.__name__}`",
                    f"`{method.result.__name__}`" if method.result else "none: a notification",
                    method.since,
                    method.summary,
                )
                for method in METHODS.values()
            ),
        ),
        "error codes": _table(("Code", "Meaning"), ((str(code), text) for code, text in ERROR_CODES.items())),
        "error kinds": _table(
            ("`kind`", "Meaning", "Send it again?"),
            ((f"`{kind}`", text, "yes" if kind in RETRYABLE else "") for kind, text in ERROR_KINDS.items()),
        ),
        "delta kinds": _table(
            ("`kind`", "Other fields", "Meaning"),
            (
                (
                    f"`{part['properties']['kind']['const']}`",
                    ", ".join(f"`{name}`" for name, _, _ in fields(part) if name != "kind"),
                    part["description"],
                )
                for part in deltas
            ),
        ),
    }

    def fill(match: re.Match[str]) -> str:
        wanted = match[1]
        if wanted.startswith("fields: "):
            names = wanted.removeprefix("fields: ").split()
            table = "\n\n".join(_fields_section(name, definitions[name]) for name in names)
        else:
            table = tables[wanted]
        return f"<!-- generated: {wanted} -->\n\n{table}\n\n<!-- end -->"

    return re.sub(r"<!-- generated: (.+?) -->.*?<!-- end -->", fill, spec, flags=re.DOTALL)


def _fields_section(name: str, schema: Schema) -> str:
    paragraphs = [f"#### {name}", *([schema["description"]] if "description" in schema else [])]
    if "properties" not in schema:
        paragraphs.append(f"`{ts_type(schema)}`")
    elif schema["properties"]:
        rows = ((f"`{field}`", f"`{type_}`", text) for field, type_, text in fields(schema))
        paragraphs.append(_table(("Field", "Type", "Meaning"), rows))
    return "\n\n".join(paragraphs)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
