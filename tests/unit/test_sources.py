"""The only reader of files and of the environment: what it refuses, what it warns of, what it never reads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ollm_daemon.config.layers import MAX_PROBLEMS, Layer
from ollm_daemon.config.sources import (
    MAX_USER_FILE,
    MAX_WORKSPACE_FILE,
    environment_proxy,
    file_stamp,
    home_folder,
    load_environment,
    load_user_file,
    load_workspace_file,
    read_own_file,
    read_secret_file,
    state_folder,
    user_file_path,
)
from ollm_daemon.urls import parse_base_url
from tests.growth import assert_linear

CANARY = "sk-CANARY"
BLOCKED = 5.0
"""Seconds after which a load counts as blocked; what blocks does so for ever."""
SOMEBODY = 12_345
posix = pytest.mark.skipif(os.name != "posix", reason="modes and devices of POSIX")
as_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away"
)


@contextmanager
def at_once() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < BLOCKED


def written(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def user_layer(path: Path, **environment: str) -> Layer:
    return load_user_file({"OLLM_CONFIG": str(path), **environment})


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with secrets as text, without the marks that only name a provider."""
    return {
        key: value.get_secret_value() if isinstance(value, SecretStr) else value
        for key, value in values.items()
        if value is not None
    }


# where the user's file is


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/h"}, "/h/.ollm/config.yaml"),
        ({"USERPROFILE": "/u"}, "/u/.ollm/config.yaml"),
        ({"HOME": "/h", "OLLM_CONFIG": "/x/c.yaml"}, "/x/c.yaml"),
        ({"HOME": "/h", "OLLM_CONFIG": ""}, "/h/.ollm/config.yaml"),
        ({"HOME": ""}, None),
        ({"HOME": "."}, None),
        ({}, None),
    ],
)
def test_user_file_path(environment: dict[str, str], expected: str | None) -> None:
    assert user_file_path(environment) == (expected and Path(expected))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/h"}, "/h/.local/state/ollm"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/ollm"),
        ({"HOME": "/h", "XDG_STATE_HOME": "state"}, "/h/.local/state/ollm"),
        ({"XDG_STATE_HOME": "./state"}, None),
        ({}, None),
    ],
)
def test_state_never_lies_where_the_daemon_happens_to_run(
    environment: dict[str, str], expected: str | None
) -> None:
    assert state_folder(environment) == (expected and Path(expected))


def test_without_a_home_there_is_no_file_and_no_problem() -> None:
    assert home_folder({}) is None
    assert load_user_file({}) == Layer("user file")


# files as they are found


def test_a_good_file_of_the_user(tmp_path: Path) -> None:
    path = written(tmp_path / "c.yaml", "\ufeffmodel: m\r\noptions:\r\n  seed: 1\r\n")
    layer = user_layer(path)
    assert plain(layer.values) == {"model": "m", "options.seed": 1}
    assert layer.problems == ()
    assert str(layer.origin("options.seed")) == f"user file ({path}:3)"


def test_a_good_file_of_a_workspace(tmp_path: Path) -> None:
    path = written(tmp_path / ".ollm" / "config.yaml", "model: m\n", 0o666)
    layer = load_workspace_file(tmp_path)
    assert plain(layer.values) == {"model": "m"}
    assert layer.problems == ()
    assert str(layer.origin("model")) == f"workspace file ({path}:1)"


@pytest.mark.parametrize("content", ["", "\n", "# nothing\n", "---\n", "{}", "~", "\ufeff"])
def test_an_empty_file_says_nothing(tmp_path: Path, content: str) -> None:
    layer = user_layer(written(tmp_path / "c.yaml", content))
    assert (dict(layer.values), layer.problems) == ({}, ())


def test_a_missing_file_says_nothing(tmp_path: Path) -> None:
    written(tmp_path / "file", "")
    for path in (tmp_path / "c.yaml", tmp_path / "no" / "c.yaml", tmp_path / "file" / "c.yaml"):
        assert user_layer(path) == Layer("user file", str(path))
    assert load_workspace_file(tmp_path).problems == ()
    assert load_workspace_file(tmp_path / "nowhere").problems == ()


# content → words of the message, line
BROKEN: dict[str, tuple[bytes, str, int | None]] = {
    "not UTF-8": (b"model: caf\xe9", "not UTF-8", None),
    "UTF-16": ("model: m".encode("utf-16"), "not UTF-8", None),
    "binary": (b"model: m\n\0\0", "does not allow", 2),
    "not YAML": (b"model: m\n  x: [", "", 2),
    "a key twice": (b"model: m\nmodel: n", "twice", 2),
    "a list": (b"- a", "must be a mapping", None),
    "a wrong type": (b"a: 1\noptions:\n  seed: x", "`options.seed`", 3),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_reported_with_its_line(tmp_path: Path, name: str) -> None:
    content, words, line = BROKEN[name]
    path = written(tmp_path / ".ollm" / "config.yaml", content)
    for layer in (user_layer(path), load_workspace_file(tmp_path)):
        problem = layer.problems[0]
        assert (problem.severity, problem.source, problem.line) == ("error", str(path), line)
        assert words in problem.message
        assert layer.broken
        assert not layer.values


def test_size_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / ".ollm" / "config.yaml"
    loads: list[tuple[int, Callable[[], Layer]]] = [
        (MAX_USER_FILE, lambda: user_layer(path)),
        (MAX_WORKSPACE_FILE, lambda: load_workspace_file(tmp_path)),
    ]
    for limit, load in loads:
        written(path, "#" * limit)
        assert load().problems == ()
        written(path, "#" * (limit + 1))
        [problem] = load().problems
        assert f"larger than {limit >> 10} KiB" in problem.message


@posix
@pytest.mark.parametrize(
    "kind", ["FIFO", "directory", "link to a device", "link to itself", "link to a FIFO"]
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".ollm" / "config.yaml"
    path.parent.mkdir()
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "link to itself":
            path.symlink_to(path)
        case _:
            os.mkfifo(tmp_path / "fifo")
            path.symlink_to(tmp_path / "fifo")
    with at_once():
        layers = user_layer(path), load_workspace_file(tmp_path)
    for layer in layers:
        [problem] = layer.problems
        assert (problem.severity, problem.source) == ("error", str(path))
        assert not layer.values
    with at_once():
        assert read_secret_file(str(path))[0] is None
        assert read_own_file(path) is None


@posix
def test_nothing_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    written(tmp_path / "bad", b"\xff")
    before = sorted(Path("/dev/fd").iterdir())
    for name in ("folder", "fifo", "bad"):
        user_layer(tmp_path / name)
    assert sorted(Path("/dev/fd").iterdir()) == before


@posix
@pytest.mark.parametrize("link", ["the file", "its folder", "the file, from inside to inside"])
def test_a_file_of_a_workspace_lies_inside(tmp_path: Path, link: str) -> None:
    workspace = tmp_path / "workspace"
    (workspace / "ollm").mkdir(parents=True)
    outside = written(tmp_path / "outside" / "config.yaml", f"model: {CANARY}")
    match link:
        case "the file":
            (workspace / ".ollm").mkdir()
            (workspace / ".ollm" / "config.yaml").symlink_to(outside)
        case "its folder":
            (workspace / ".ollm").symlink_to(outside.parent)
        case _:
            written(workspace / "ollm" / "config.yaml", "model: m")
            (workspace / ".ollm").symlink_to("ollm")
            assert plain(load_workspace_file(workspace).values) == {"model": "m"}
            return
    layer = load_workspace_file(workspace)
    [problem] = layer.problems
    assert "leads out of the workspace" in problem.message
    assert CANARY not in repr(layer)


@posix
def test_a_workspace_may_be_a_link_itself(tmp_path: Path) -> None:
    written(tmp_path / "real" / ".ollm" / "config.yaml", "model: m")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert plain(load_workspace_file(tmp_path / "link").values) == {"model": "m"}


# who may write and who may read the user's file

KEYED = f"providers: {{vllm: {{apiKey: {CANARY}}}}}"
REFERRING = "providers: {vllm: {apiKey: '${KEY}'}}"


@posix
@pytest.mark.parametrize(
    ("mode", "content", "severity", "words"),
    [
        (0o600, KEYED, None, ""),
        (0o400, KEYED, None, ""),
        (0o644, "model: m", None, ""),
        (0o644, REFERRING, None, ""),
        (0o644, KEYED, "warning", "other users can read it"),
        (0o640, KEYED, "warning", "other users can read it"),
        (0o666, "model: m", "error", "other users can write"),
        (0o620, "model: m", "error", "other users can write"),
        (0o602, KEYED, "error", "other users can write"),
    ],
)
def test_modes(tmp_path: Path, mode: int, content: str, severity: str | None, words: str) -> None:
    layer = user_layer(written(tmp_path / "c.yaml", content, mode), KEY="k")
    assert [problem.severity for problem in layer.problems] == ([severity] if severity else [])
    assert all(words in problem.message for problem in layer.problems)
    assert bool(layer.values) is (severity != "error")
    assert CANARY not in repr(layer)


@posix
def test_the_mode_that_counts_is_that_of_the_file_behind_a_link(tmp_path: Path) -> None:
    target = written(tmp_path / "dotfiles" / "c.yaml", "model: m", 0o666)
    (tmp_path / "c.yaml").symlink_to(target)
    assert user_layer(tmp_path / "c.yaml").broken
    target.chmod(0o600)
    assert plain(user_layer(tmp_path / "c.yaml").values) == {"model": "m"}


@posix
@as_root
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "c.yaml", "model: m")
    os.chown(path, SOMEBODY, SOMEBODY)
    [problem] = user_layer(path).problems
    assert "belongs to another user" in problem.message
    assert read_own_file(path) is None
    written(path, "sk-a")
    assert read_secret_file(str(path)) == (None, problem.message)


# key files


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("sk-a", "sk-a"),
        (" sk-a\r\n\n", "sk-a"),
        ("\ufeffsk-a\n", "sk-a"),
        ("", None),
        ("\n", None),
        ("sk-CANARY\nX-Evil: 1", None),
        ("sk-CANARY é", None),
        ("sk-CANARY\0", None),
        ("sk-CANARY" + "x" * 70_000, None),
    ],
)
def test_key_files(tmp_path: Path, content: str, key: str | None) -> None:
    text, problem = read_secret_file(str(written(tmp_path / "key", content)))
    assert text == key
    assert bool(problem) is (key is None)
    assert CANARY not in problem


@pytest.mark.parametrize("path", ["", "/nowhere/key", "a\0b", "~nobody-has-this-name/key"])
def test_a_key_file_that_cannot_be_read_is_a_problem(path: str) -> None:
    text, problem = read_secret_file(path)
    assert text is None
    assert problem.endswith(".")


@posix
@pytest.mark.parametrize(
    ("mode", "words"),
    [(0o600, ""), (0o400, ""), (0o644, "can read"), (0o640, "can read"), (0o666, "can write")],
)
def test_modes_of_key_files(tmp_path: Path, mode: int, words: str) -> None:
    text, problem = read_secret_file(str(written(tmp_path / "key", "sk-a", mode)))
    assert words in problem
    assert bool(problem) is bool(words)
    assert text == (None if "write" in words else "sk-a")


# ${VARIABLE}

VARIABLES = {
    "A": "a",
    "B": "${A}",
    "C": "x\n  baseUrl: http://evil",
    "D": "http://d:1",
    "E": "",
    "F": "1",
    "_": "u",
}
BIG = "z" * 1_000_000

# what stands at apiKeyFile → what it becomes, or words of the message
EXPANDED: dict[str, tuple[str | None, str]] = {
    "${A}": ("a", ""),
    "x${A}y${A}": ("xaya", ""),
    "${B}": ("${A}", ""),
    "${_}": ("u", ""),
    "${C}": ("x\n  baseUrl: http://evil", ""),
    "${E}": ("", ""),
    "${BIG}": (BIG, ""),
    "$${A}": ("${A}", ""),
    "$$${A}": ("$${A}", ""),
    "$A": ("$A", ""),
    "{A}": ("{A}", ""),
    "$ {A}": ("$ {A}", ""),
    "${NONE}": (None, "the environment variable NONE is not set"),
    "${A:-d}": (None, "the name of an environment variable, and nothing else"),
    "${A!}": (None, "and nothing else"),
    "${}": (None, "and nothing else"),
    "${ A }": (None, "and nothing else"),
    "${": (None, "and nothing else"),
    "${A": (None, "and nothing else"),
    "${${A}}": (None, "and nothing else"),
    "${1A}": (None, "and nothing else"),
}


@pytest.mark.parametrize("text", EXPANDED)
def test_variables_are_filled_in_once(tmp_path: Path, text: str) -> None:
    expected, words = EXPANDED[text]
    path = written(tmp_path / "c.yaml", f"providers:\n  vllm:\n    apiKeyFile: '{text}'")
    layer = user_layer(path, BIG=BIG, **VARIABLES)
    if expected is not None:
        assert plain(layer.values) == {"providers.vllm.apiKeyFile": expected}
        return
    problem = layer.problems[0]
    assert (problem.severity, problem.key, problem.line) == ("error", "providers.vllm.apiKeyFile", 3)
    assert words in problem.message
    assert not layer.values


def test_many_open_variables_take_no_more_time_than_their_number(tmp_path: Path) -> None:
    def load(count: int) -> None:
        path = written(tmp_path / "c.yaml", f"providers: {{vllm: {{apiKeyFile: '{'${' * count}'}}}}")
        assert load_user_file({"OLLM_CONFIG": str(path)}).broken

    assert_linear(load, 100_000)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("apiKey: ${A}", {"apiKey": "a"}),
        ("baseUrl: ${D}", {"baseUrl": "http://d:1"}),
        ("proxy: ${D}", {"proxy": "http://d:1"}),
        ("caFile: ${A}", {"caFile": "a"}),
        ("clientCert: ${A}", {"clientCert": "a"}),
        ("clientKey: ${A}", {"clientKey": "a"}),
        ("modelPath: ${A}", {"modelPath": "a"}),
        ("headers: {X: '${A}'}", {"headers.X": "a"}),
        ("headers: {'${A}': x}", None),
        ("baseUrl: ${C}", None),
        ("apiKey: ${C}", None),
        ("apiKey: ${E}", None),
        ("headers: {X: '${C}'}", None),
        ("kind: ${A}", None),
        ("timeouts: {idle: '${F}'}", None),
    ],
)
def test_variables_count_in_listed_fields_and_their_values_are_judged(
    tmp_path: Path, lines: str, expected: dict[str, Any] | None
) -> None:
    layer = user_layer(written(tmp_path / "c.yaml", f"providers:\n  vllm:\n    {lines}"), **VARIABLES)
    if expected is None:
        assert layer.broken
        assert "evil" not in repr(layer)
    else:
        assert plain(layer.values) == {f"providers.vllm.{key}": value for key, value in expected.items()}


def test_elsewhere_in_the_users_file_it_is_text(tmp_path: Path) -> None:
    text = "model: ${A}\naliases: {x: '${A}'}\noptions: {stop: ['${A}'], extraBody: {apiKey: '${A}'}}"
    assert plain(user_layer(written(tmp_path / "c.yaml", text), **VARIABLES).values) == {
        "model": "${A}",
        "aliases.x": "${A}",
        "options.stop": ["${A}"],
        "options.extraBody": {"apiKey": "${A}"},
    }


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("model: ${A}", "model", 1),
        ("model: m\nproviders:\n  x:\n    baseUrl: http://${A}", "providers.x.baseUrl", 4),
        ("options:\n  stop:\n  - x\n  - ${A}", "options.stop.1", 2),
        ("options:\n  extraBody:\n    a:\n      b: $${A}", "options.extraBody.a.b", 4),
        ("nonsense: ${A}", "nonsense", 1),
    ],
)
def test_in_a_workspace_it_is_an_error(tmp_path: Path, text: str, key: str, line: int | None) -> None:
    path = written(tmp_path / ".ollm" / "config.yaml", text)
    layer = load_workspace_file(tmp_path)
    [problem] = layer.problems
    assert (problem.severity, problem.key, problem.source, problem.line) == ("error", key, str(path), line)
    assert not layer.values


def test_a_file_full_of_variables_is_told_in_few_words(tmp_path: Path) -> None:
    written(tmp_path / ".ollm" / "config.yaml", "\n".join(f"k{number}: ${{A}}" for number in range(1_000)))
    assert len(load_workspace_file(tmp_path).problems) == MAX_PROBLEMS


# the environment

URLS = {
    "OLLAMA_HOST": "providers.local.baseUrl",
    "VLLM_HOST": "providers.vllm.baseUrl",
    "OPENAI_COMPATIBLE_HOST": "providers.openai-compatible.baseUrl",
}
ENVIRONMENTS: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {}),
    ({"OLLAMA_HOST": ""}, {}),
    ({"OLLAMA_HOST": "  "}, {}),
    ({"OLLAMA_HOST": "gpu"}, {URLS["OLLAMA_HOST"]: "http://gpu:11434"}),
    ({"OLLAMA_HOST": "0.0.0.0"}, {URLS["OLLAMA_HOST"]: "http://127.0.0.1:11434"}),
    ({"OLLAMA_HOST": "[::]:99"}, {URLS["OLLAMA_HOST"]: "http://[::1]:99"}),
    ({"VLLM_HOST": "gpu"}, {URLS["VLLM_HOST"]: "http://gpu:8000"}),
    ({"VLLM_HOST": "https://gpu/v1"}, {URLS["VLLM_HOST"]: "https://gpu"}),
    ({"OPENAI_COMPATIBLE_HOST": "gpu"}, {URLS["OPENAI_COMPATIBLE_HOST"]: "http://gpu:1234"}),
    ({"VLLM_API_KEY": "sk-a\n"}, {"providers.vllm.apiKey": "sk-a"}),
    ({"VLLM_API_KEY": " "}, {}),
    ({"OPENAI_COMPATIBLE_API_KEY": "sk-b"}, {"providers.openai-compatible.apiKey": "sk-b"}),
    ({"OPENAI_API_KEY": "sk-c", "OPENAI_BASE_URL": "http://evil", "OLLAMA_API_KEY": "sk-d"}, {}),
    ({"VLLM_API_KEY": "${HOME}"}, {"providers.vllm.apiKey": "${HOME}"}),
]


@pytest.mark.parametrize(("environment", "expected"), ENVIRONMENTS)
def test_environment(environment: dict[str, str], expected: dict[str, str]) -> None:
    layer = load_environment(environment)
    assert layer.name == "environment"
    assert plain(layer.values) == expected
    assert layer.problems == ()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(
            (variable, text)
            for variable in URLS
            for text in ("ftp://h", "http://u:sk-CANARY@h", "h:0", "a b")
        ),
        *((variable, "sk-CANARY x") for variable in ("VLLM_API_KEY", "OPENAI_COMPATIBLE_API_KEY")),
        ("VLLM_API_KEY", "sk-CANARYé"),
    ],
)
def test_one_bad_variable_is_named_and_spoils_no_other(variable: str, text: str) -> None:
    good = {"OLLAMA_HOST": "a:1", "VLLM_HOST": "b:1", "VLLM_API_KEY": "k", "OPENAI_COMPATIBLE_HOST": "c:1"}
    layer = load_environment({**good, variable: text})
    [problem] = layer.problems
    assert (problem.severity, problem.key) == ("error", variable)
    assert problem.message.startswith(f"{variable}: ")
    assert problem.hint == f"Correct or unset {variable}."
    expected = plain(load_environment({key: value for key, value in good.items() if key != variable}).values)
    assert plain(layer.values) == expected
    assert CANARY not in repr(layer)


def test_no_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "OLLAMA_HOST=evil\nVLLM_API_KEY=sk-CANARY\nHTTPS_PROXY=http://evil:1\nOLLM_CONFIG=/evil\nA=evil\n"
    for name in (".env", ".env.local", ".ollm/.env"):
        written(tmp_path / name, lines)
    written(tmp_path / ".ollm" / "config.yaml", "model: m")
    home = written(tmp_path / "home" / ".ollm" / "config.yaml", "providers: {vllm: {caFile: '${A}'}}")
    written(home.parent / ".env", lines)
    monkeypatch.chdir(tmp_path)
    environment = {"HOME": str(tmp_path / "home")}
    assert not load_environment(environment).values
    assert plain(load_workspace_file(tmp_path).values) == {"model": "m"}
    assert load_user_file(environment).broken
    assert environment_proxy(parse_base_url("https://h"), environment) is None


# proxies

PROXY = "http://proxy:3128"
PROXIES: list[tuple[str, dict[str, str], str | None]] = [
    ("http://h", {}, None),
    ("http://h", {"HTTP_PROXY": PROXY}, PROXY),
    ("http://h", {"http_proxy": PROXY}, PROXY),
    ("http://h", {"HTTP_PROXY": "http://upper:1", "http_proxy": PROXY}, PROXY),
    ("http://h", {"http_proxy": PROXY, "HTTP_PROXY": "http://upper:1"}, PROXY),
    ("http://h", {"HTTP_PROXY": ""}, None),
    ("http://h", {"HTTP_PROXY": "proxy:3128"}, PROXY),
    ("http://h", {"HTTPS_PROXY": PROXY}, None),
    ("https://h", {"HTTPS_PROXY": PROXY}, PROXY),
    ("https://h", {"HTTP_PROXY": PROXY}, None),
    ("https://h", {"ALL_PROXY": PROXY}, PROXY),
    ("https://h", {"ALL_PROXY": "http://all:1", "HTTPS_PROXY": PROXY}, PROXY),
    ("http://h", {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
    ("http://h", {"HTTP_PROXY": PROXY, "NO_PROXY": "h"}, None),
    ("http://h", {"HTTP_PROXY": PROXY, "no_proxy": "x, H"}, None),
    ("http://h", {"HTTP_PROXY": PROXY, "NO_PROXY": "h", "no_proxy": "x"}, PROXY),
    ("http://a.h.example", {"HTTP_PROXY": PROXY, "NO_PROXY": ".h.example"}, None),
    ("http://a.h.example", {"HTTP_PROXY": PROXY, "NO_PROXY": "h.example"}, None),
    ("http://ah.example", {"HTTP_PROXY": PROXY, "NO_PROXY": "h.example"}, PROXY),
    ("http://h:8000", {"HTTP_PROXY": PROXY, "NO_PROXY": "h:8000"}, None),
    ("http://h:8001", {"HTTP_PROXY": PROXY, "NO_PROXY": "h:8000"}, PROXY),
    ("http://10.0.0.1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.1"}, None),
    ("http://[fd00::1]:8000", {"HTTP_PROXY": PROXY, "NO_PROXY": "fd00::1"}, None),
    ("http://[fd00::1]:8000", {"HTTP_PROXY": PROXY}, PROXY),
]


@pytest.mark.parametrize(("url", "environment", "expected"), PROXIES)
def test_proxies(url: str, environment: dict[str, str], expected: str | None) -> None:
    assert environment_proxy(parse_base_url(url), environment) == expected


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"])
def test_loopback_is_always_direct(host: str) -> None:
    everything = {"HTTP_PROXY": PROXY, "http_proxy": PROXY, "ALL_PROXY": PROXY, "all_proxy": PROXY}
    assert environment_proxy(parse_base_url(f"http://{host}:1"), everything) is None


def test_the_process_s_own_environment_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "OLLAMA_HOST", "VLLM_API_KEY", "OLLM_CONFIG", "NO_PROXY"):
        monkeypatch.setenv(name, "http://evil:1")
    assert environment_proxy(parse_base_url("http://h"), {}) is None
    assert environment_proxy(parse_base_url("http://h"), {"HTTP_PROXY": PROXY}) == PROXY
    assert not load_environment({}).values
    assert load_user_file({}).source == ""


def test_a_stamp_changes_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert file_stamp(path) is None
    first = file_stamp(written(path, "a"))
    assert first == file_stamp(path)
    second = file_stamp(written(path, "ab"))
    written(tmp_path / "new", "ab").replace(path)
    assert len({first, second, file_stamp(path)}) == 3
