"""One layer: what it may say, what is wrong with it, on which line, and never with which value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollm_daemon.config._yaml import parse_yaml
from ollm_daemon.config.layers import MAX_PROBLEMS, UNTRUSTED, Layer, make_layer, shown, shown_key
from ollm_daemon.config.options import MAX_NAMES
from ollm_daemon.config.settings import ORDER
from ollm_daemon.domain import Origin

CANARY = "sk-CANARY"


def layer_of(text: str, name: str = "user file") -> Layer:
    document = parse_yaml(text)
    return make_layer(name, document.data, source="/c.yaml", lines=document.lines)


def provider(*lines: str) -> str:
    """A file whose one provider says these lines, from line 3 on."""
    return "\n".join(["providers:", "  vllm:", *(f"    {line}" for line in lines)])


# text → key, line, words of the message, words of the hint
UNKNOWN: dict[str, tuple[str, int, str]] = {
    "modle: m": ("modle", 1, "Did you mean `model`?"),
    "model: m\nOptions: {}": ("Options", 2, "Did you mean `options`?"),
    "telemetry: true": ("telemetry", 1, ""),
    "options:\n  temprature: 1": ("options.temprature", 2, "Did you mean `options.temperature`?"),
    "options:\n  max_tokens: 1": ("options.max_tokens", 2, "Did you mean `options.maxTokens`?"),
    provider("baseurl: http://h"): ("providers.vllm.baseurl", 3, "Did you mean `providers.vllm.baseUrl`?"),
    provider("base_url: http://h"): ("providers.vllm.base_url", 3, "Did you mean `providers.vllm.baseUrl`?"),
    provider(f"apikey: {CANARY}"): ("providers.vllm.apikey", 3, "Did you mean `providers.vllm.apiKey`?"),
    provider(f"api_key: {CANARY}"): ("providers.vllm.api_key", 3, "Did you mean `providers.vllm.apiKey`?"),
    provider(f"token: {CANARY}"): ("providers.vllm.token", 3, ""),
    provider("timeouts:", f"  firsttoken: {CANARY}"): (
        "providers.vllm.timeouts.firsttoken",
        4,
        "Did you mean `providers.vllm.timeouts.firstToken`?",
    ),
    f"apiKey: {CANARY}": ("apiKey", 1, ""),
    f"vllm:\n  apiKey: {CANARY}": ("vllm", 1, ""),
    "trusted: true": ("trusted", 1, ""),
    "1: a": ("1", 1, ""),
}

# text → key, line, words of the message
WRONG: dict[str, tuple[str, int | None, str]] = {
    f"- {CANARY}": ("", None, "must be a mapping"),
    f"{CANARY}": ("", None, "must be a mapping"),
    f"model: [{CANARY}]": ("model", 1, "valid string"),
    "model: ''": ("model", 1, "at least 1 character"),
    "provider: ''": ("provider", 1, "at least 1 character"),
    "model: 3": ("model", 1, "valid string"),
    "providers: []": ("providers", 1, "dictionary"),
    f"providers:\n  vllm: {CANARY}": ("providers.vllm", 2, "dictionary"),
    provider(f"kind: {CANARY}"): ("providers.vllm.kind", 3, "'vllm'"),
    provider(f"backend: {CANARY}"): ("providers.vllm.backend", 3, "'lmstudio'"),
    provider(f"baseUrl: {CANARY}"): ("providers.vllm.baseUrl", 3, "http://"),
    provider(f"baseUrl: http://u:{CANARY}@h"): ("providers.vllm.baseUrl", 3, "no user name"),
    provider(f"baseUrl: http://h?key={CANARY}"): ("providers.vllm.baseUrl", 3, "no user name"),
    provider("baseUrl: ''"): ("providers.vllm.baseUrl", 3, "http://"),
    provider(f"proxy: http://u:{CANARY}@h"): ("providers.vllm.proxy", 3, "no user name"),
    provider(f"apiKey: [{CANARY}]"): ("providers.vllm.apiKey", 3, "string"),
    provider(f"apiKey: {{value: {CANARY}}}"): ("providers.vllm.apiKey", 3, "string"),
    provider(f"apiKey: {CANARY} x"): ("providers.vllm.apiKey", 3, "without spaces"),
    provider(f'apiKey: "{CANARY}\\n"'): ("providers.vllm.apiKey", 3, "without spaces"),
    provider(f'apiKey: "{CANARY}\\0"'): ("providers.vllm.apiKey", 3, "ASCII"),
    provider(f"apiKey: {CANARY}é"): ("providers.vllm.apiKey", 3, "ASCII"),
    provider("apiKey: ''"): ("providers.vllm.apiKey", 3, "not empty"),
    provider(f"apiKey: {CANARY}", "verifyTls: maybe"): ("providers.vllm.verifyTls", 4, "boolean"),
    provider(f"apiKey: {CANARY}", "timeouts: 5"): ("providers.vllm.timeouts", 4, "dictionary"),
    provider("timeouts:", "  idle: -1"): ("providers.vllm.timeouts.idle", 4, "greater than or equal to 1"),
    provider("timeouts:", "  idle: 0"): ("providers.vllm.timeouts.idle", 4, "greater than or equal to 1"),
    provider("timeouts:", "  total: 86401"): ("providers.vllm.timeouts.total", 4, "86400"),
    provider("timeouts:", "  total: inf"): ("providers.vllm.timeouts.total", 4, "finite"),
    provider("timeouts:", f"  total: {CANARY}"): ("providers.vllm.timeouts.total", 4, "number"),
    provider("headers:", f'  X-A: "{CANARY}\\r\\nX-Evil: 1"'): ("providers.vllm.headers", 3, "X-A"),
    provider("headers:", f'  X-A: "{CANARY}\\0"'): ("providers.vllm.headers", 3, "X-A"),
    provider("headers:", f"  X-A: {CANARY}é"): ("providers.vllm.headers", 3, "ASCII"),
    provider("headers:", f'  "X-A: 1\\r\\nX-B": {CANARY}'): ("providers.vllm.headers", 3, "cannot be set"),
    provider("headers:", f'  "": {CANARY}'): ("providers.vllm.headers", 3, "cannot be set"),
    provider("headers:", f"  X A: {CANARY}"): ("providers.vllm.headers", 3, "cannot be set"),
    provider("headers:", f"  Host: {CANARY}"): ("providers.vllm.headers", 3, "'Host' cannot be set"),
    provider("headers:", f"  content-LENGTH: {CANARY}"): ("providers.vllm.headers", 3, "cannot be set"),
    provider("headers:", f"  Transfer-Encoding: {CANARY}"): ("providers.vllm.headers", 3, "cannot be set"),
    provider("headers:", f"  Accept-Encoding: {CANARY}"): ("providers.vllm.headers", 3, "cannot be set"),
    provider("headers:", "  X-A: [1]"): ("providers.vllm.headers.X-A", 4, "string"),
    "providers:\n  a b: {}": ("providers", 1, "'a b'"),
    "providers:\n  a.b: {}": ("providers", 1, "'a.b'"),
    "providers:\n  a/b: {}": ("providers", 1, "'a/b'"),
    "providers:\n  -a: {}": ("providers", 1, "'-a'"),
    "providers:\n  '': {}": ("providers", 1, "''"),
    "providers:\n  é: {}": ("providers", 1, "'é'"),
    f"providers:\n  {'a' * 65}: {{}}": ("providers", 1, "aaa"),
    "aliases:\n  fast model: local": ("aliases", 1, "'fast model'"),
    "aliases:\n  '': local": ("aliases", 1, "''"),
    'aliases:\n  "a\\u202eb": local': ("aliases", 1, "one word"),
    "aliases:\n  a: [local]": ("aliases.a", 2, "string"),
    "options:\n  temperature: -0.1": ("options.temperature", 2, "greater than or equal to 0"),
    "options:\n  temperature: inf": ("options.temperature", 2, "finite"),
    "options:\n  temperature: nan": ("options.temperature", 2, "finite"),
    "options:\n  topP: 0": ("options.topP", 2, "greater than 0"),
    "options:\n  topK: 1.5": ("options.topK", 2, "integer"),
    "options:\n  maxTokens: 0": ("options.maxTokens", 2, "greater than or equal to 1"),
    "options:\n  stop: END": ("options.stop", 2, "list"),
    "options:\n  stop:\n  - a\n  - [b]": ("options.stop.1", 2, "string"),
    "options:\n  extraBody: [1]": ("options.extraBody", 2, "dictionary"),
}

# text → dotted key → value
SAID: dict[str, dict[str, Any]] = {
    "": {},
    "{}": {},
    "model:": {},
    "options: {}": {},
    "providers: {vllm: {}}": {"providers.vllm": None},
    "model: m\nprovider: p": {"model": "m", "provider": "p"},
    "aliases: {gpt-4.1: a/b, x: y}": {"aliases.gpt-4.1": "a/b", "aliases.x": "y"},
    "options: {stop: [a], extraBody: {a: {b: 1}}}": {
        "options.stop": ["a"],
        "options.extraBody": {"a": {"b": 1}},
    },
    provider("proxy: ''", "verifyTls: no", "selectable: yes"): {
        "providers.vllm": None,
        "providers.vllm.proxy": "",
        "providers.vllm.verifyTls": False,
        "providers.vllm.selectable": True,
    },
    provider("timeouts: {idle: 5, stall:}"): {"providers.vllm": None, "providers.vllm.timeouts.idle": 5.0},
    provider("headers: {X.Y: 1a}"): {"providers.vllm": None, "providers.vllm.headers.X.Y": "***"},
    provider("apiKey: a\"b'c$d"): {"providers.vllm": None, "providers.vllm.apiKey": "***"},
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_an_unknown_key_is_a_warning(text: str) -> None:
    key, line, hint = UNKNOWN[text]
    layer = layer_of(f"{text}\naliases: {{a: b}}")
    [problem] = layer.problems
    assert (problem.severity, problem.key, problem.line, problem.hint) == ("warning", key, line, hint)
    assert f"`{key}` is ignored" in problem.message
    assert str(problem).startswith(f"/c.yaml:{line}: ")
    assert not layer.broken
    assert layer.values["aliases.a"] == "b"
    assert CANARY not in repr(layer)


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_value_is_an_error(text: str) -> None:
    key, line, words = WRONG[text]
    layer = layer_of(text)
    [problem] = layer.problems
    assert (problem.severity, problem.key, problem.line) == ("error", key, line)
    assert words in problem.message
    assert layer.broken
    assert not layer.values
    assert CANARY not in repr(layer)
    assert CANARY not in str(problem)


@pytest.mark.parametrize("text", SAID)
def test_what_a_layer_says(text: str) -> None:
    layer = layer_of(text)
    assert {key: shown(key, value) for key, value in layer.values.items()} == SAID[text]
    assert layer.problems == ()


def test_a_layer_with_one_error_keeps_nothing_and_tells_everything() -> None:
    layer = layer_of("model: m\nmodle: x\noptions:\n  temperature: hot\n  seed: x\n")
    assert [(problem.severity, problem.line) for problem in layer.problems] == [
        ("error", 4),
        ("error", 5),
        ("warning", 2),
    ]
    assert not layer.values


@pytest.mark.parametrize("line", ["k{}: 1", "aliases{}: {{}}", "\u202ek{}: 1"])
def test_a_file_of_nonsense_is_told_in_few_and_short_words(line: str) -> None:
    nonsense = [line.format(f"{number:0>300}") for number in range(1_000)]
    layer = layer_of("\n".join(nonsense))
    assert len(layer.problems) == MAX_PROBLEMS
    for problem in layer.problems:
        assert len(problem.message) < 200
        assert problem.message.isprintable()
        assert len(problem.key) < 100


def test_a_file_of_errors_is_told_in_few_words() -> None:
    layer = layer_of("providers:\n" + "\n".join(f"  p{number}: 1" for number in range(MAX_NAMES)))
    assert len(layer.problems) == MAX_PROBLEMS


@pytest.mark.parametrize("text", ["providers", "aliases"])
def test_names_have_a_limit(text: str) -> None:
    value = "{}" if text == "providers" else "local"
    names = [f"  n{number}: {value}" for number in range(MAX_NAMES + 1)]
    assert not layer_of("\n".join([f"{text}:", *names[:-1]])).problems
    [problem] = layer_of("\n".join([f"{text}:", *names])).problems
    assert "at most 200" in problem.message


def test_a_key_is_shown_whole_or_cut_but_always_visible() -> None:
    assert shown_key("options.topP") == "options.topP"
    assert shown_key("é") == "é"
    assert shown_key("a\n\x1b[31m\u202eb") == r"a\n\x1b[31m\u202eb"
    assert shown_key("a" * 81) == "a" * 80 + "…"


def test_origin_knows_layer_file_and_line() -> None:
    layer = layer_of("model: m\noptions:\n  seed: 1")
    assert layer.origin("options.seed") == Origin("user file", "/c.yaml", 3)
    assert str(layer.origin("options.seed")) == "user file (/c.yaml:3)"
    assert str(make_layer("flags", {"model": "m"}).origin("model")) == "flags"


def test_only_what_a_repository_can_write_is_untrusted() -> None:
    untrusted = {name for name in ORDER if not Layer(name).trusted}
    assert untrusted == UNTRUSTED == {"workspace file", "editor workspace settings"}


@pytest.mark.parametrize("data", [[], "x", 3, True, {"model": {}}, {"": 1}])
def test_what_a_client_sends_is_judged_alike(data: Any) -> None:
    layer = make_layer("editor user settings", data)
    assert layer.problems
    assert layer.problems[0].source == "editor user settings"
    assert not layer.values


NAMES = (
    "provider model providers aliases options vllm kind baseUrl apiKey headers timeouts idle stop extraBody"
)
KEYS = st.sampled_from([*NAMES.split(), "temperature", "verifyTls", "nonsense", "", "a b"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([CANARY, "", "http://h"])


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_data_is_a_layer_and_no_problem_repeats_a_value(data: Any) -> None:
    layer = make_layer("user file", data)
    assert all(CANARY not in str(problem) + problem.hint for problem in layer.problems)
    assert not (layer.broken and layer.values)
