"""Approvals: bound to a workspace and to every character of what it wants, and granted by the user alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from ollm_daemon.config.layers import make_layer
from ollm_daemon.config.settings import RoutingRequest
from ollm_daemon.config.trust import Approvals, routing_request, split_layer

WORKSPACE = "/home/me/project"
ROUTING: dict[str, Any] = {
    "providers.new": None,
    "providers.new.kind": "vllm",
    "providers.new.baseUrl": "https://new.example",
    "providers.new.headers.X-Team": SecretStr("a"),
}
SOMEBODY = 12_345
posix = pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
as_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away"
)


def asked(workspace: str = WORKSPACE, **changed: Any) -> RoutingRequest:
    values = {key: changed.pop(key.rpartition(".")[2], value) for key, value in ROUTING.items()}
    return routing_request(workspace, f"{workspace}/.ollm/config.yaml", {**values, **changed})


def granted_in(path: Path, request: RoutingRequest) -> Path:
    """A file that grants `request`, as somebody else might write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({request.workspace: {request.digest: "yes"}}), encoding="utf-8")
    path.chmod(0o600)
    return path


# what an approval covers


def test_an_approval_holds_and_survives_a_restart(tmp_path: Path) -> None:
    assert not Approvals(tmp_path / "ollm").holds(asked())
    Approvals(tmp_path / "ollm").add(asked())
    assert Approvals(tmp_path / "ollm").holds(asked())


CHANGES: dict[str, RoutingRequest] = {
    "another workspace": asked("/home/me/projec"),
    "a workspace inside": asked(f"{WORKSPACE}/sub"),
    "a slash after the workspace": asked(f"{WORKSPACE}/"),
    "no workspace": asked(""),
    "one character of the host": asked(baseUrl="https://new.exemple"),
    "the scheme": asked(baseUrl="http://new.example"),
    "a port": asked(baseUrl="https://new.example:8443"),
    "a slash after the address": asked(baseUrl="https://new.example/"),
    "the case of the address": asked(baseUrl="https://New.example"),
    "the kind": asked(kind="openai-compatible"),
    "a header's value": asked(**{"X-Team": "b"}),
    "a header more": asked(**{"providers.new.headers.X": "a"}),
    "a proxy more": asked(**{"providers.new.proxy": "http://proxy"}),
    "a provider more": asked(**{"providers.other.baseUrl": "https://new.example"}),
    "a proxy for none": asked(**{"providers.new.proxy": ""}),
    "text for a truth": asked(**{"providers.new.verifyTls": "False"}),
    "a header less": routing_request(WORKSPACE, "", dict(list(ROUTING.items())[:-1])),
    "nothing": routing_request(WORKSPACE, "", {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_asks_again(tmp_path: Path, change: str) -> None:
    approvals = Approvals(tmp_path)
    approvals.add(asked())
    assert not approvals.holds(CHANGES[change])


def test_the_order_of_keys_is_no_change() -> None:
    backwards = dict(reversed(ROUTING.items()))
    assert routing_request(WORKSPACE, "", backwards).digest == asked().digest


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
WANTED = st.tuples(st.text(max_size=3), st.dictionaries(st.text(max_size=3), VALUES, max_size=3))


@settings(deadline=None, max_examples=200)
@given(WANTED, WANTED)
def test_equal_digests_mean_equal_content(one: tuple[str, Any], other: tuple[str, Any]) -> None:
    digests = [routing_request(workspace, "", values).digest for workspace, values in (one, other)]
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digests[0] == digests[1]) is same


def test_one_approval_keeps_the_others(tmp_path: Path) -> None:
    requests = [asked(), asked(kind="local"), asked("/other")]
    for request in requests:
        Approvals(tmp_path).add(request)
    assert all(Approvals(tmp_path).holds(request) for request in requests)


# the file


@posix
def test_the_file_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Approvals(tmp_path / "state" / "ollm").add(asked())
    finally:
        os.umask(before)
    folder = tmp_path / "state" / "ollm"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    [file] = folder.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("approvals.json", 0o600)


def test_without_a_state_folder_nothing_can_be_approved() -> None:
    approvals = Approvals(None)
    with pytest.raises(OSError, match="no state folder"):
        approvals.add(asked())
    assert not approvals.holds(asked())


def test_a_state_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ollm").write_text("")
    approvals = Approvals(tmp_path / "ollm")
    assert not approvals.holds(asked())
    with pytest.raises(OSError, match="exists"):
        approvals.add(asked())


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"approved: all",
    "cut": b'{"/home/me/project": {"',
    "not UTF-8": b"\xff",
    "a list": json.dumps([asked().digest]).encode(),
    "text": json.dumps(asked().digest).encode(),
    "null": b"null",
    "true": b"true",
    "a workspace of null": json.dumps({WORKSPACE: None}).encode(),
    "a workspace of true": json.dumps({WORKSPACE: True}).encode(),
    "a workspace of text": json.dumps({WORKSPACE: f"x {asked().digest} x"}).encode(),
    "a workspace of a list": json.dumps({WORKSPACE: [asked().digest]}).encode(),
    "deep": b"[" * 100_000,
    "huge": b'{"a": "' + b"x" * (2 << 20) + b'"}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_grants_nothing_and_can_be_mended(tmp_path: Path, name: str) -> None:
    (tmp_path / "approvals.json").write_bytes(BROKEN[name])
    (tmp_path / "approvals.json").chmod(0o600)
    approvals = Approvals(tmp_path)
    assert not approvals.holds(asked())
    approvals.add(asked())
    assert approvals.holds(asked())


def test_what_is_good_in_a_broken_file_stays(tmp_path: Path) -> None:
    path = granted_in(tmp_path / "approvals.json", asked())
    path.write_text(json.dumps({"/other": None, **json.loads(path.read_text())}), encoding="utf-8")
    assert Approvals(tmp_path).holds(asked())


@posix
def test_a_file_that_others_can_write_grants_nothing(tmp_path: Path) -> None:
    path = granted_in(tmp_path / "approvals.json", asked())
    assert Approvals(tmp_path).holds(asked())
    for mode in (0o666, 0o660, 0o602):
        path.chmod(mode)
        assert not Approvals(tmp_path).holds(asked())


@posix
@as_root
def test_a_file_of_somebody_else_grants_nothing(tmp_path: Path) -> None:
    os.chown(granted_in(tmp_path / "approvals.json", asked()), SOMEBODY, SOMEBODY)
    assert not Approvals(tmp_path).holds(asked())


@posix
@pytest.mark.timeout(5)
def test_a_pipe_in_its_place_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "approvals.json")
    approvals = Approvals(tmp_path)
    assert not approvals.holds(asked())
    approvals.add(asked())
    assert approvals.holds(asked())


def test_a_folder_in_its_place_is_an_error_that_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "approvals.json" / "x").mkdir(parents=True)
    approvals = Approvals(tmp_path)
    assert not approvals.holds(asked())
    with pytest.raises(OSError, match="directory"):
        approvals.add(asked())
    assert [path.name for path in tmp_path.iterdir()] == ["approvals.json"]


@posix
def test_what_a_link_leads_to_is_not_written(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("{}")
    folder = tmp_path / "ollm"
    folder.mkdir()
    for name in ("approvals.json", f"approvals.{os.getpid()}", "approvals.tmp"):
        (folder / name).symlink_to(precious)
    Approvals(folder).add(asked())
    assert precious.read_text() == "{}"
    assert not (folder / "approvals.json").is_symlink()
    assert Approvals(folder).holds(asked())


# the question


def question(**fields: Any) -> str:
    layer = make_layer("workspace file", {"providers": {"vllm": fields}})
    _, routing, _ = split_layer(layer)
    return routing_request(WORKSPACE, "", routing).question


CHANGE = "change where prompts are sent"
QUESTIONS: list[tuple[dict[str, Any], str]] = [
    ({"baseUrl": "http://h:1"}, "send prompts to http://h:1 (vllm)"),
    (
        {"baseUrl": "http://h", "verifyTls": False},
        "send prompts to http://h (vllm) and sets vllm.verifyTls to false",
    ),
    ({"headers": {"X-A": "one"}}, f'{CHANGE} and sets vllm.headers.X-A to "one"'),
    (
        {"caFile": "/x", "timeouts": {"idle": 5}},
        f'{CHANGE} and sets vllm.caFile to "/x", vllm.timeouts.idle to 5.0',
    ),
    ({"proxy": "http://p:1"}, f"{CHANGE} through the proxy http://p:1"),
    ({"proxy": ""}, f'{CHANGE} and sets vllm.proxy to ""'),
    (
        {"headers": {"A.baseUrl": "http://localhost (safe)"}},
        f'{CHANGE} and sets vllm.headers.A.baseUrl to "http://localhost (safe)"',
    ),
    (
        {"headers": {"A.kind": "x", "A.proxy": "x"}},
        f'{CHANGE} and sets vllm.headers.A.kind to "x", vllm.headers.A.proxy to "x"',
    ),
    (
        {"caFile": "/x\n  vllm.baseUrl: http://localhost\u202e"},
        f'{CHANGE} and sets vllm.caFile to "/x\\n  vllm.baseUrl: http://localhost\\u202e"',
    ),
    ({"baseUrl": "http://h/\u202egnp"}, 'send prompts to "http://h/\\u202egnp" (vllm)'),
    (
        {"caFile": "x" * 300},
        f'{CHANGE} and sets vllm.caFile to "{"x" * 199}… (302 characters; `ollm trust` shows all)',
    ),
]


@pytest.mark.parametrize(("fields", "expected"), QUESTIONS)
def test_the_question_says_where_prompts_go(fields: dict[str, Any], expected: str) -> None:
    assert question(**fields) == f"This workspace wants to {expected}."


# what counts at once


SPLIT: list[tuple[dict[str, Any], set[str], set[str], set[str]]] = [
    ({"model": "m", "provider": "p"}, {"model", "provider"}, set(), set()),
    (
        {"aliases": {"providers.x": "y"}, "options": {"seed": 1}},
        {"aliases.providers.x", "options.seed"},
        set(),
        set(),
    ),
    ({"providers": {"x": {}}}, set(), set(), set()),
    ({"providers": {"x": {"baseUrl": "http://h"}}}, set(), {"providers.x", "providers.x.baseUrl"}, set()),
    ({"providers": {"x": {"apiKey": "k"}}}, set(), set(), {"providers.x.apiKey"}),
    ({"providers": {"x": {"apiKeyFile": "k"}}}, set(), set(), {"providers.x.apiKeyFile"}),
    ({"providers": {"x": {"selectable": True}}}, set(), set(), {"providers.x.selectable"}),
    (
        {"providers": {"x": {"headers": {"apiKey": "k"}}}},
        set(),
        {"providers.x", "providers.x.headers.apiKey"},
        set(),
    ),
]


@pytest.mark.parametrize(("data", "free", "routing", "forbidden"), SPLIT)
def test_what_counts_at_once_later_and_never(
    data: dict[str, Any], free: set[str], routing: set[str], forbidden: set[str]
) -> None:
    at_once, later, problems = split_layer(make_layer("workspace file", data, source="/w"))
    assert (set(at_once), set(later)) == (free, routing)
    assert [(problem.severity, problem.source, problem.key) for problem in problems] == [
        ("warning", "/w", key) for key in forbidden
    ]
