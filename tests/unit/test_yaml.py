"""YAML: plain data with line numbers, bounded in size, depth and time, and one named error for the rest."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollm_daemon.config._yaml import MAX_DEPTH, MAX_NODES, YamlError, parse_yaml
from tests.growth import assert_linear

SCALARS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "FALSE": False,
    "no": "no",
    "yes": "yes",
    "on": "on",
    "y": "y",
    "nULL": "nULL",
    "0": 0,
    "-17": -17,
    "+17": 17,
    "0o17": 15,
    "0x1F": 31,
    "017": 17,
    "1_000": "1_000",
    "0b11": "0b11",
    "1:30": "1:30",
    "1e3": 1000.0,
    "1.": 1.0,
    ".5": 0.5,
    "-1.5E-2": -0.015,
    "1e999": "1e999",
    ".inf": ".inf",
    ".nan": ".nan",
    "9223372036854775807": 2**63 - 1,
    "9223372036854775808": "9223372036854775808",
    "-9223372036854775808": -(2**63),
    "0xfffffffffffffffff": "0xfffffffffffffffff",
    "2026-11-23": "2026-11-23",
    "١٢": "١٢",
    "'no'": "no",
    "'~'": "~",
    '"12"': "12",
    r'"\u00e9\n"': "é\n",
    "|\n 12": "12\n",
    ">-\n a\n b": "a b",
    "<<": "<<",
    "=": "=",
}


def nested(levels: int, inside: str = "1") -> str:
    return "[" * levels + inside + "]" * levels


DOCUMENTS: dict[str, tuple[str, Any]] = {
    "nothing": ("", None),
    "a comment": ("# only this\n", None),
    "the start of a document": ("---\n", None),
    "start and end": ("--- {a: 1}\n...\n", {"a": 1}),
    "JSON": ('{"a": [1, {"b": null}], "c": "\\u00e9"}', {"a": [1, {"b": None}], "c": "é"}),
    "byte order mark": ("\ufeffa: 1", {"a": 1}),
    "CRLF": ("a:\r\n  b: 1\r\n", {"a": {"b": 1}}),
    "alias": ("a: &x [1, {b: 2}]\nc: *x\n", {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}),
    "an anchor again": ("[&x 1, &x 2, *x]", [1, 2, 2]),
    "a merge key is a key": ("a: &x {b: 1}\nc: {<<: *x}", {"a": {"b": 1}, "c": {"<<": {"b": 1}}}),
    "numbers as keys are text": ("{1: a, true: b, ~: c}", {"1": "a", "true": "b", "~": "c"}),
    "as deep as may be": (nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH))),
    "as many as may be": ("[" + "1," * (MAX_NODES - 1) + "]", [1] * (MAX_NODES - 1)),
}

# what stands there → text, line, words of the message
REFUSED: dict[str, tuple[str, int | None, str]] = {
    "51 levels": ("\n" + nested(MAX_DEPTH + 1), 2, "deeper than 50"),
    "3000 open brackets": ("[" * 3000, 1, "deeper than 50"),
    "3000 brackets and an alias": ("['*3000" + "[" * 3000, 1, ""),
    "3000 dashes": ("- " * 3000, 1, "deeper than 50"),
    "51 mappings": ("\n".join(" " * depth + "a:" for depth in range(52)), 52, "deeper than 50"),
    "51 levels through aliases": (f"- &x {nested(30)}\n- {nested(30, '*x')}", 2, "deeper"),
    "51 mappings through aliases": (
        f"- &x {'{a: ' * 30}1{'}' * 30}\n- {'{a: ' * 30}*x{'}' * 30}",
        2,
        "deeper",
    ),
    "20 001 values": ("a:\n" + "- 1\n" * (MAX_NODES - 2), MAX_NODES - 1, "more than 20000"),
    "10 001 keys": ("\n".join(f"k{number}: 1" for number in range(10_001)), 10_000, "more than 20000"),
    "the same key": ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "'c' stands here twice"),
    "the same key in quotes": ('{1: a, "1": b}', 1, "twice"),
    "tag of Python": ("a:\n  !!python/object/apply:os.system ls", 2, "tags"),
    "tag of Python, list": ("!!python/object/apply:os.system [ls]", 1, "tags"),
    "tag of Python, mapping": ("!!python/object:os.x {a: 1}", 1, "tags"),
    "tag of a scalar": ("!!int 3", 1, "tags"),
    "tag of a key": ("a: 1\n!!int 1: x", 2, "tags"),
    "tag without a name": ("! 12", 1, "tags"),
    "tag of its own": ("!mine 12", 1, "tags"),
    "tag with a handle": ("a: !sk-CANARY!x 1", 1, "tags"),
    "a list as a key": ("? [a]\n: b", 1, "plain text"),
    "a mapping as a key": ("{{a: 1}: 2}", 1, "plain text"),
    "an alias as a key": ("a: &x b\n*x : c", 2, "plain text"),
    "an unknown alias": ("a: 1\nb: *sk-CANARY", 2, "unknown alias"),
    "an alias inside itself": ("&x [*x]", 1, "unknown alias"),
    "two documents": ("a: 1\n---\nb: 2", 2, "more than one document"),
    "an empty second document": ("a: 1\n---\n", 2, "more than one document"),
    "a broken second document": ("a: 1\n---\nb: [", 2, "more than one document"),
    "rest after the end": ("[a]\nb", 2, ""),
    "tab for indentation": ("a:\n\tb: 1", 2, "'\\t'"),
    "NUL": ("a: 1\nb: \0", 2, "does not allow"),
    "escape character": ("a: \x1b[31m", 1, "does not allow"),
    "half a surrogate pair": (r'a: "\ud800"', 1, "surrogate"),
    "half a surrogate pair in a key": (r'"\udc00": 1', 1, "surrogate"),
    "a number for a character that is none": (r'a: "\UFFFFFFFF"', None, "not valid"),
    "a character beyond Unicode": (r'a: "\U00110000"', None, "not valid"),
    "a version of 5,000 digits": ("%YAML 1." + "1" * 5000 + "\n---\na", None, "not valid"),
    "version 2": ("%YAML 2.0\n---\na", 1, ""),
    "an open bracket": ("a: [1,\n", 2, ""),
    "an open quote": ("a: 'sk-CANARY\n", 2, ""),
    "a closing bracket": ("a: ]", 1, ""),
    "no key": ("a: b: c", 1, ""),
    "unindented": ("a:\n  b: 1\n c: 2", 3, ""),
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars(text: str) -> None:
    value = parse_yaml(f"a: {text}\n").data["a"]
    expected = SCALARS[text]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents(name: str) -> None:
    text, expected = DOCUMENTS[name]
    assert parse_yaml(text).data == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, line, words = REFUSED[name]
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert caught.value.line == line
    assert words in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_an_alias_costs_what_it_expands_to() -> None:
    """Nine levels of nine: 324 bytes that walk for ever once they are data."""
    levels = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for before, name in itertools.pairwise("abcdefghi"):
        levels.append(f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]")
    with pytest.raises(YamlError, match="more than 20000"):
        parse_yaml("\n".join(levels))
    assert len(parse_yaml("\n".join(levels[:4])).data["d"]) == 9


def test_lines_of_nested_keys() -> None:
    text = "# first\nproviders:\n\n  vllm:\n    timeouts: {idle: 5,\n      total: 6}\n"
    text += "list:\n- a: 1\n- b:\n    c: 2\n"
    assert parse_yaml(text).lines == {
        "providers": 2,
        "providers.vllm": 4,
        "providers.vllm.timeouts": 5,
        "providers.vllm.timeouts.idle": 5,
        "providers.vllm.timeouts.total": 6,
        "list": 7,
        "list.0.a": 8,
        "list.1.b": 9,
        "list.1.b.c": 10,
    }


# what is there → a text of that many characters, more or less
HUGE: dict[str, Callable[[int], str]] = {
    "digits and a letter": lambda size: "a: " + "1" * size + "x",
    "digits, a point and a letter": lambda size: f"a: {'1' * (size // 2)}.{'1' * (size // 2)}x",
    "digits and an exponent": lambda size: f"a: {'1' * (size // 2)}e{'1' * (size // 2)}",
    "a number": lambda size: "a: " + "9" * size,
    "a number with a point": lambda size: "a: 0." + "9" * size,
    "brackets": lambda size: "[" * size,
    "question marks": lambda size: "? " * (size // 2),
    "anchors": lambda size: "[" + "&a 1," * (size // 5),
    "an anchor": lambda size: "&" + "a" * size,
    "documents": lambda size: "---\n" * (size // 4),
    "a wrong key": lambda size: "'" + "k" * size + "': {'" + "k" * size + "': 1, '" + "k" * size,
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.slow
def test_huge_text_takes_no_more_time_than_its_size(name: str) -> None:
    assert_linear(lambda size: line_of_problem(HUGE[name](size)), 200_000)


def line_of_problem(text: str) -> int | None:
    """The line that the named error tells; 1 where there is none. Whatever else is raised is a failure."""
    try:
        parse_yaml(text)
    except YamlError as error:
        return error.line
    return 1


YAML_PIECES = [*"ab[]{}!%|>'\"\\#\t\n~\x85\u2028é", ": ", "- ", "? ", ", ", "\n  ", "&a ", "*a", "!!str "]
YAML_PIECES += [
    "\\x",
    "\\UFFFFFFFF",
    "---\n",
    "...",
    "0x",
    "1e",
    "9" * 30,
    "%YAML 1.",
    "%TAG ! !",
    "<<",
    "\ufeff",
]
YAML_WORDS = st.lists(st.sampled_from(YAML_PIECES), max_size=30).map("".join)


@settings(deadline=None, max_examples=400)
@given(st.text(max_size=60) | YAML_WORDS)
@example('"\\UFFFFFFFF"')
@example("%YAML 1." + "1" * 5000 + "\n---\na")
def test_any_text_is_a_document_or_the_named_error(text: str) -> None:
    line = line_of_problem(text)
    assert line is None or 1 <= line <= len(text.splitlines()) + 1


BMP = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None, max_examples=100)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | BMP,
        lambda inner: st.lists(inner) | st.dictionaries(BMP, inner),
        max_leaves=10,
    )
)
def test_json_is_read_as_what_it_is(value: Any) -> None:
    assert parse_yaml(json.dumps(value)).data == value
