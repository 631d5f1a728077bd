"""Whose word counts: the last layer wins with its true origin, a workspace decides nothing about where
prompts and keys go until the user approved exactly that, and a key stays with the origin it was for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from ollm_daemon.config.layers import UNTRUSTED, Layer, make_layer
from ollm_daemon.config.options import ProviderOptions
from ollm_daemon.config.resolve import REMOTE_FIRST_TOKEN_SECONDS, Outside, resolve
from ollm_daemon.config.settings import ORDER, RoutingRequest, Settings
from ollm_daemon.config.trust import FORBIDDEN
from ollm_daemon.domain import GenerationOptions, Origin, ProviderSettings, Timeouts
from ollm_daemon.urls import BaseUrl

CANARY = "sk-CANARY"
USER, ENVIRONMENT, EDITOR, FILE, FOLDER, FLAGS = ORDER[1:]
WORKSPACE = "/home/me/project"
DEFAULT = make_layer(
    "default",
    {
        "providers": {
            "local": {"kind": "local", "baseUrl": "http://localhost:11434"},
            "vllm": {"kind": "vllm", "baseUrl": "http://localhost:8000"},
            "embedded": {"kind": "embedded"},
        }
    },
)
Data = Mapping[str, Any]


def say(layer: str, data: Data) -> Layer:
    made = make_layer(layer, data, source=f"/{layer}", lines=dict.fromkeys(_keys(data), 7))
    assert not made.problems, made.problems
    return made


def _keys(data: Any, path: str = "") -> list[str]:
    if not isinstance(data, dict):
        return []
    keys = [f"{path}.{key}" if path else key for key in data]
    return keys + [
        inner for key, value in zip(keys, data.values(), strict=True) for inner in _keys(value, key)
    ]


class User:
    """A user who approves what was shown to them, and nothing else."""

    def __init__(self, *shown: RoutingRequest) -> None:
        self._digests = {request.digest for request in shown}

    def __call__(self, request: RoutingRequest) -> bool:
        return request.digest in self._digests


NOBODY = User()


def everybody(request: RoutingRequest) -> bool:
    return True


def settings_of(
    *layers: Layer, approved: Callable[[RoutingRequest], bool] = NOBODY, **outside: Any
) -> Settings:
    return resolve([DEFAULT, *layers], Outside(workspace=WORKSPACE, approved=approved, **outside))


def one(name: str, **fields: Any) -> Data:
    return {"providers": {name: fields}}


def warnings(settings: Settings) -> list[str]:
    return [str(problem) for problem in settings.problems]


# who wins

VALUES: dict[str, tuple[Callable[[int], Data], Callable[[Settings], Any]]] = {
    "model": (lambda n: {"model": f"m{n}"}, lambda s: s.model),
    "options.seed": (lambda n: {"options": {"seed": n}}, lambda s: s.options.seed),
    "options.temperature": (lambda n: {"options": {"temperature": n}}, lambda s: s.options.temperature),
    "options.stop": (lambda n: {"options": {"stop": [f"{n}"]}}, lambda s: list(s.options.stop)),
    "options.extraBody": (lambda n: {"options": {"extraBody": {f"k{n}": n}}}, lambda s: s.options.extra_body),
    "aliases.a": (lambda n: {"aliases": {"a": f"local/m{n}"}}, lambda s: s.aliases.get("a")),
    "provider": (lambda n: {"provider": ("local", "vllm")[n % 2]}, lambda s: s.provider),
    "providers.vllm.timeouts.idle": (
        lambda n: one("vllm", timeouts={"idle": n + 1}),
        lambda s: s.providers["vllm"].timeouts.idle,
    ),
    "providers.vllm.baseUrl": (
        lambda n: one("vllm", baseUrl=f"http://h{n}"),
        lambda s: str(s.providers["vllm"].base_url),
    ),
}


@pytest.mark.parametrize("key", VALUES)
@pytest.mark.parametrize("last", ORDER[1:])
def test_a_stronger_layer_wins_in_whatever_order_they_come(key: str, last: str) -> None:
    data, read = VALUES[key]
    said = [say(name, data(rank)) for rank, name in enumerate(ORDER) if 0 < rank <= ORDER.index(last)]
    for layers in (said, said[::-1]):
        result = settings_of(*layers, approved=everybody)
        assert read(result) == read(settings_of(say(USER, data(ORDER.index(last)))))
        assert result.origin_of(key) == Origin(last, f"/{last}", 7)
        assert [setting.value for setting in result.effective if setting.key == key] == [read(result)]


SAYING = st.dictionaries(st.sampled_from(ORDER[1:]), st.integers(0, 9))


@settings(deadline=None, max_examples=100)
@given(st.fixed_dictionaries(dict.fromkeys(VALUES, SAYING)), st.booleans(), st.randoms())
def test_the_last_layer_that_says_something_wins(
    sayings: dict[str, dict[str, int]], approves: bool, random: Any
) -> None:
    layers = []
    for name in ORDER[1:]:
        merged: dict[str, Any] = {}
        for key, said in sayings.items():
            if name in said:
                merge(merged, VALUES[key][0](said[name]))
        layers.append(say(name, merged))
    random.shuffle(layers)
    result = settings_of(*layers, approved=everybody if approves else NOBODY)
    for key, (data, read) in VALUES.items():
        counted = [
            name
            for name in ORDER
            if name in sayings[key]
            and (approves or name not in UNTRUSTED or not key.startswith(("providers.", "options.extraBody")))
        ]
        if counted:
            assert result.origin_of(key) == Origin(counted[-1], f"/{counted[-1]}", 7)
            expected = read(settings_of(say(USER, data(sayings[key][counted[-1]]))))
        else:
            assert result.origin_of(key).layer == "default"
            expected = read(settings_of())
        assert read(result) == expected


def merge(into: dict[str, Any], data: Data) -> None:
    for key, value in data.items():
        if isinstance(value, dict) and key != "extraBody":
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def test_defaults() -> None:
    result = settings_of()
    assert (result.provider, result.model, result.options) == ("local", None, GenerationOptions())
    assert sorted(result.providers) == ["embedded", "local", "vllm"]
    assert {setting.origin for setting in result.effective} == {Origin("default")}
    assert (result.problems, result.pending, dict(result.refusals)) == ((), (), {})
    assert result.origin_of("model") == Origin("default")


def test_the_daemons_own_defaults_are_complete() -> None:
    from ollm_daemon.daemon import default_layer

    result = resolve([default_layer()])
    assert result.problems == ()
    assert {"local", "vllm", "openai-compatible"} <= result.providers.keys()
    assert all(provider.base_url.is_loopback for provider in result.providers.values())


def test_secrets_are_masked_where_values_are_shown() -> None:
    result = settings_of(say(USER, one("vllm", apiKey=CANARY, headers={"X-Api-Key": CANARY})))
    shown = {setting.key: setting.value for setting in result.effective}
    assert shown["providers.vllm.apiKey"] == shown["providers.vllm.headers.X-Api-Key"] == "***"
    assert CANARY not in repr(result)


def test_problems_of_all_layers_are_told_once() -> None:
    broken = make_layer(USER, {"model": 1, "modle": 2}, source="/user file")
    result = settings_of(broken, make_layer(FLAGS, {"x": 1}), broken)
    assert len(result.problems) == 3


@pytest.mark.parametrize(
    ("fields", "missing"), [({}, "kind"), ({"baseUrl": "http://h"}, "kind"), ({"kind": "vllm"}, "baseUrl")]
)
def test_a_provider_that_is_not_whole_is_an_error_with_its_line(fields: Data, missing: str) -> None:
    result = settings_of(say(USER, {"model": "m", **one("mine", **fields)}))
    [problem] = result.problems
    assert f"`mine` has no `{missing}`" in problem.message
    assert (problem.severity, problem.key, problem.source, problem.line) == (
        "error",
        "providers.mine",
        "/user file",
        7,
    )
    assert "mine" not in result.providers
    assert result.model == "m"


def test_a_key_that_an_editor_keeps_for_a_provider_of_another_workspace_is_no_problem() -> None:
    spare = {"providers": {"gpu": {"apiKey": "sk-spare"}}}
    kept = settings_of(say("editor user settings", spare))
    assert kept.problems == ()
    assert "gpu" not in kept.providers
    assert [problem.key for problem in settings_of(say("user file", spare)).problems] == ["providers.gpu"]
    more = {"providers": {"gpu": {"apiKey": "sk-spare", "backend": "lmstudio"}}}
    assert [problem.key for problem in settings_of(say("editor user settings", more)).problems] == [
        "providers.gpu"
    ]


# what a workspace may say about where prompts go

THERE = {"kind": "vllm", "baseUrl": "https://there.example", "apiKey": "k", "headers": {"X-A": "a"}}
OWN = say(USER, {"provider": "there", "model": "mine", "providers": {"there": THERE}})
# field → what a workspace says, the same with one character changed
ROUTING: dict[str, tuple[Any, Any]] = {
    "kind": ("openai-compatible", "local"),
    "baseUrl": ("https://evil.example", "https://evil.exampl"),
    "headers": ({"X-A": CANARY}, {"X-A": f"{CANARY}x"}),
    "backend": ("llamacpp", "localai"),
    "proxy": ("http://evil:1", "http://evil:2"),
    "verifyTls": (False, True),
    "caFile": ("/evil.pem", "/evil.pen"),
    "timeouts": ({"idle": 1}, {"idle": 11}),
    "modelPath": ("/evil.gguf", "/evil.ggufx"),
    "contextLength": (4096, 40960),
}
BOTH = pytest.mark.parametrize("layer", sorted(UNTRUSTED))


def test_every_field_of_a_provider_is_forbidden_or_needs_approval() -> None:
    assert {to_camel(name) for name in ProviderOptions.model_fields} == ROUTING.keys() | FORBIDDEN


@BOTH
@pytest.mark.parametrize("field", ROUTING)
def test_routing_from_a_workspace_counts_once_it_is_approved(layer: str, field: str) -> None:
    value, changed = ROUTING[field]
    before = settings_of(OWN)

    hostile = say(layer, one("there", **{field: value}))
    result = settings_of(OWN, hostile)
    assert result.providers == before.providers
    assert (result.provider, result.model) == (before.provider, before.model)
    assert result.effective == before.effective
    [request] = result.pending
    [warning] = set(warnings(result)) - set(warnings(before))
    assert warning.startswith(f"/{layer}:7: `providers.there.{field}")
    assert CANARY not in warning

    approved = settings_of(OWN, hostile, approved=User(request))
    assert approved.providers["there"] != before.providers["there"]
    assert approved.pending == ()

    again = settings_of(OWN, say(layer, one("there", **{field: changed})), approved=User(request))
    assert again.providers == before.providers
    assert len(again.pending) == 1


@BOTH
def test_an_approval_is_of_this_workspace(layer: str) -> None:
    hostile = say(layer, one("there", baseUrl="https://evil.example"))
    [request] = settings_of(OWN, hostile).pending
    elsewhere = resolve([DEFAULT, OWN, hostile], Outside(workspace="/elsewhere", approved=User(request)))
    assert str(elsewhere.providers["there"].base_url) == "https://there.example"
    assert len(elsewhere.pending) == 1


@BOTH
@pytest.mark.parametrize("field", sorted(FORBIDDEN))
def test_some_fields_never_come_from_a_workspace(layer: str, field: str) -> None:
    value = True if field == "selectable" else CANARY
    for fields in ({field: value}, {field: value, "baseUrl": "https://evil.example"}):
        result = settings_of(OWN, say(layer, one("there", **fields)), approved=everybody)
        [warning] = set(warnings(result)) - set(warnings(settings_of(OWN)))
        assert warning.startswith(f"/{layer}:7: ")
        assert f"`providers.there.{field}`" in warning
        assert CANARY not in repr(result)
        assert result.origin_of("providers.there.apiKey").layer == USER
    assert settings_of(OWN, say(layer, one("there", **{field: value}))).pending == ()


def test_trusted_layers_need_no_approval() -> None:
    for layer in set(ORDER[1:]) - UNTRUSTED:
        result = settings_of(say(layer, one("new", kind="vllm", baseUrl="https://new.example")))
        assert str(result.providers["new"].base_url) == "https://new.example"
        assert result.pending == ()


def test_both_untrusted_layers_are_asked_about_apart() -> None:
    file = say(FILE, one("new", kind="vllm", baseUrl="https://new.example"))
    folder = say(FOLDER, one("new", baseUrl="https://evil.example"))
    result = settings_of(file, folder)
    assert [request.source for request in result.pending] == [f"/{FILE}", f"/{FOLDER}"]
    half = settings_of(file, folder, approved=User(result.pending[0]))
    assert str(half.providers["new"].base_url) == "https://new.example"
    assert half.pending == result.pending[1:]


# what a workspace may say at once


@BOTH
def test_model_options_and_aliases_count_at_once(layer: str) -> None:
    result = settings_of(
        OWN,
        say(
            layer,
            {"model": "m", "aliases": {"a": "local/x"}, "options": {"seed": 1}, **one("x", proxy="http://p")},
        ),
    )
    assert (result.model, result.options.seed, dict(result.aliases)) == ("m", 1, {"a": "local/x"})
    assert result.origin_of("model").layer == layer
    assert len(result.pending) == 1


REMOTE = {"kind": "vllm", "baseUrl": "https://corp.example", "apiKey": "k"}
NEARBY = {"kind": "vllm", "baseUrl": "http://127.0.0.1:9"}
CORP: Data = {
    "providers": {"corp": REMOTE, "near": NEARBY},
    "aliases": {"c": "corp", "big": "corp/l", "n": "near/l"},
}


def corp(**more: Any) -> Data:
    return {**CORP, "providers": {"near": NEARBY, "corp": {**REMOTE, **more}}}


# what the user says, what the workspace says → provider and model in use, name that is refused, questions
NAMES: dict[str, tuple[Data, Data, tuple[str, str | None], str | None, int]] = {
    "a provider on this machine": (CORP, {"provider": "near"}, ("near", None), None, 0),
    "a built-in one": (CORP, {"provider": "vllm"}, ("vllm", None), None, 0),
    "the embedded one": (CORP, {"provider": "embedded"}, ("embedded", None), None, 0),
    "an alias of one on this machine": (CORP, {"provider": "n", "model": "n"}, ("n", "n"), None, 0),
    "one on another machine": (CORP, {"provider": "corp"}, ("corp", None), "corp", 1),
    "the same, offered": (corp(selectable=True), {"provider": "corp"}, ("corp", None), None, 0),
    "the same, kept back": (corp(selectable=False), {"provider": "corp"}, ("corp", None), "corp", 1),
    "the same, which the user uses anyway": (
        {**CORP, "provider": "corp"},
        {"provider": "corp"},
        ("corp", None),
        None,
        0,
    ),
    "the same by the user's alias": (CORP, {"provider": "c"}, ("c", None), "corp", 1),
    "the same by an alias of its own": (
        CORP,
        {"provider": "x", "aliases": {"x": "corp"}},
        ("local", None),
        None,
        1,
    ),
    "the same by two aliases": (
        CORP,
        {"provider": "x", "aliases": {"x": "y", "y": "c"}},
        ("local", None),
        None,
        1,
    ),
    "the same, offered, by an alias of its own": (
        corp(selectable=True),
        {"provider": "x", "aliases": {"x": "corp"}},
        ("x", None),
        None,
        0,
    ),
    "a model by the user's alias": (CORP, {"model": "big"}, ("local", None), None, 1),
    "a model by the user's alias, over the user's model": (
        {**CORP, "model": "mine"},
        {"model": "big"},
        ("local", "mine"),
        None,
        1,
    ),
    "a model that the user uses anyway": (
        {**CORP, "model": "big"},
        {"model": "big"},
        ("local", "big"),
        None,
        0,
    ),
    "a model by an alias of its own": (
        CORP,
        {"model": "x", "aliases": {"x": "corp/l"}},
        ("local", None),
        None,
        1,
    ),
    "the name of the user's model, made an alias": (
        {**CORP, "model": "mine"},
        {"aliases": {"mine": "corp/l"}},
        ("local", "mine"),
        None,
        1,
    ),
    "a model that has a slash": (CORP, {"model": "corp/l"}, ("local", "corp/l"), None, 0),
    "one on this machine, kept back": (
        {"providers": {"near": {**NEARBY, "selectable": False}}},
        {"provider": "near"},
        ("near", None),
        "near",
        1,
    ),
    "one that nobody has": (CORP, {"provider": "nobody"}, ("nobody", None), None, 0),
    "one that only its unapproved part defines": (
        {**CORP, "provider": "near"},
        {"provider": "new", "providers": {"new": REMOTE}},
        ("near", None),
        None,
        1,
    ),
    "one of the user's that its unapproved part changes": (
        CORP,
        {"provider": "near", "providers": {"near": {"baseUrl": "http://127.0.0.1:10"}}},
        ("near", None),
        None,
        1,
    ),
}


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_which_providers_a_workspace_may_name(layer: str, name: str) -> None:
    own, theirs, in_use, refused, questions = NAMES[name]
    result = settings_of(say(USER, own), workspace_says(layer, theirs))
    assert (result.provider, result.model) == in_use
    assert list(result.refusals) == ([refused] if refused else [])
    assert len(result.pending) == questions
    assert all("corp.example" in text for text in result.refusals.values() if refused == "corp")
    assert str(result.providers.get("near", "")) == str(settings_of(say(USER, own)).providers.get("near", ""))
    for key, value in (("provider", result.provider), ("model", result.model)):
        effective = {setting.key: setting.value for setting in result.effective}
        assert effective.get(key, "local" if key == "provider" else None) == value


def workspace_says(layer: str, data: Data) -> Layer:
    """A key in it would be a warning of its own."""
    made = make_layer(layer, data, source=f"/{layer}")
    return Layer(layer, made.source, {k: v for k, v in made.values.items() if not k.endswith("apiKey")})


@BOTH
@pytest.mark.parametrize("name", [name for name, row in NAMES.items() if row[4]])
def test_what_the_user_approves_needs_no_second_question(layer: str, name: str) -> None:
    own, theirs, *_ = NAMES[name]
    layers = say(USER, own), workspace_says(layer, theirs)
    asked = settings_of(*layers).pending
    result = settings_of(*layers, approved=User(*asked))
    assert (result.pending, dict(result.refusals)) == ((), {})
    assert result.provider == theirs.get("provider", "local")
    assert result.model == theirs.get("model", own.get("model"))


@BOTH
def test_an_approved_name_is_bound_to_the_address_behind_it(layer: str) -> None:
    names = workspace_says(layer, {"provider": "corp", "aliases": {"x": "corp/l"}})
    user = User(*settings_of(say(USER, CORP), names).pending)
    moved = settings_of(say(USER, corp(baseUrl="https://moved.example")), names, approved=user)
    assert "corp" in moved.refusals
    assert "x" not in moved.aliases


def test_a_refused_alias_gives_way_to_the_users() -> None:
    own = {**CORP, "aliases": {"fast": "near/small"}}
    result = settings_of(say(USER, own), say(FILE, {"model": "fast", "aliases": {"fast": "corp/l"}}))
    assert (result.model, result.aliases["fast"]) == ("fast", "near/small")
    assert result.origin_of("aliases.fast").layer == USER
    [warning] = [text for text in warnings(result) if "`aliases.fast`" in text]
    assert warning.startswith(f"/{FILE}:7: ")


def test_flags_are_not_asked_about() -> None:
    result = settings_of(
        say(USER, CORP),
        say(FILE, {"provider": "near", "model": "n"}),
        say(FLAGS, {"provider": "corp", "model": "big"}),
    )
    assert (result.provider, result.model, dict(result.refusals)) == ("corp", "big", {})


def test_aliases_in_a_circle_end() -> None:
    circle = {"provider": "a", "model": "a", "aliases": {"a": "b", "b": "a", "c": "c", "d": "d/x"}}
    for layer in (USER, FILE):
        assert settings_of(say(layer, circle)).provider == "a"


# where keys go

KEYED = {"kind": "vllm", "baseUrl": "https://a.example", "apiKey": "mine"}
HEADED = {"kind": "vllm", "baseUrl": "https://a.example", "headers": {"X-Key": "mine"}}
ELSEWHERE = "https://b.example"

# layers → what is sent to the address in use
CERTIFIED = {"clientCert": "/c.pem", "clientKey": "/k.pem"}
KEYS: dict[str, tuple[list[tuple[str, Data]], list[str]]] = {
    "none": ([(USER, {"kind": "vllm", "baseUrl": "https://a.example"})], []),
    "of the user": ([(USER, KEYED)], ["mine"]),
    "beside the address of a stronger layer": (
        [(USER, {"kind": "vllm", "apiKey": "mine"}), (EDITOR, {"baseUrl": ELSEWHERE})],
        ["mine"],
    ),
    "beside an address of its own, and a stronger one": (
        [
            (USER, {"kind": "vllm", "baseUrl": "https://a.example", "apiKey": "mine"}),
            (ENVIRONMENT, {"baseUrl": ELSEWHERE}),
        ],
        [],
    ),
    "with a weaker address": ([(USER, KEYED), (ENVIRONMENT, {"apiKey": "env"})], ["env"]),
    "without any address": ([(USER, {"kind": "vllm", "apiKey": "mine"}), (FILE, {"baseUrl": ELSEWHERE})], []),
    "another host in a workspace": ([(USER, KEYED), (FILE, {"baseUrl": ELSEWHERE})], []),
    "another host in the editor's workspace": ([(USER, KEYED), (FOLDER, {"baseUrl": ELSEWHERE})], []),
    "only another port": ([(USER, KEYED), (FILE, {"baseUrl": "https://a.example:8443"})], []),
    "only another scheme": ([(USER, KEYED), (FILE, {"baseUrl": "http://a.example"})], []),
    "only another scheme, same port": ([(USER, KEYED), (FILE, {"baseUrl": "http://a.example:443"})], []),
    "a longer host": ([(USER, KEYED), (FILE, {"baseUrl": "https://a.example.evil"})], []),
    "a dot after the host": ([(USER, KEYED), (FILE, {"baseUrl": "https://a.example."})], []),
    "the same origin, other path": (
        [(USER, KEYED), (FILE, {"baseUrl": "https://A.EXAMPLE:443/x"})],
        ["mine"],
    ),
    "another kind in a workspace": ([(USER, KEYED), (FILE, {"kind": "local"})], ["mine"]),
    "host of a flag": ([(USER, KEYED), (FLAGS, {"baseUrl": ELSEWHERE})], []),
    "host of a flag, same origin": ([(USER, KEYED), (FLAGS, {"baseUrl": "https://a.example/x"})], ["mine"]),
    "host and key of flags": ([(USER, KEYED), (FLAGS, {"baseUrl": ELSEWHERE, "apiKey": "flag"})], ["flag"]),
    "key of a flag": ([(USER, KEYED), (FLAGS, {"apiKey": "flag"})], ["flag"]),
    "key of a flag, host of a workspace": (
        [(USER, KEYED), (FILE, {"baseUrl": ELSEWHERE}), (FLAGS, {"apiKey": "f"})],
        [],
    ),
    "header of the user": ([(USER, HEADED)], ["mine"]),
    "header, another host in a workspace": ([(USER, HEADED), (FILE, {"baseUrl": ELSEWHERE})], []),
    "header, host of a flag": ([(USER, HEADED), (FLAGS, {"baseUrl": ELSEWHERE})], []),
    "header, host and key of flags": (
        [(USER, HEADED), (FLAGS, {"baseUrl": ELSEWHERE, "apiKey": "flag"})],
        ["flag"],
    ),
    "key, host and header of flags": (
        [(USER, KEYED), (FLAGS, {"baseUrl": ELSEWHERE, "headers": {"X": "f"}})],
        ["f"],
    ),
    "header, key of a flag": ([(USER, HEADED), (FLAGS, {"apiKey": "flag"})], ["flag", "mine"]),
    "one header in two spellings": ([(USER, HEADED), (EDITOR, {"headers": {"x-key": "new"}})], ["new"]),
    "a file": ([(USER, {"kind": "vllm", "baseUrl": ELSEWHERE, "apiKeyFile": "/k"})], ["key of /k"]),
    "a file, host of a workspace": (
        [(USER, {**NEARBY, "apiKeyFile": "/k"}), (FILE, {"baseUrl": ELSEWHERE})],
        [],
    ),
    "a file over a key": ([(USER, KEYED), (EDITOR, {"apiKeyFile": "/k"})], ["key of /k"]),
    "a key over a file": ([(USER, {**KEYED, "apiKeyFile": "/k"}), (ENVIRONMENT, {"apiKey": "env"})], ["env"]),
    "a key beside a file": ([(USER, {**KEYED, "apiKeyFile": "/k"})], ["mine"]),
    "a file that is not there": ([(USER, KEYED), (EDITOR, {"apiKeyFile": "/none"})], []),
    "a certificate": ([(USER, {**NEARBY, **CERTIFIED})], ["/c.pem /k.pem"]),
    "a certificate beside a key": ([(USER, {**KEYED, **CERTIFIED})], ["mine", "/c.pem /k.pem"]),
    "a certificate, host of a flag": ([(USER, {**NEARBY, **CERTIFIED}), (FLAGS, {"baseUrl": ELSEWHERE})], []),
    "a certificate, host of a workspace": (
        [(USER, {**NEARBY, **CERTIFIED}), (FILE, {"baseUrl": ELSEWHERE})],
        [],
    ),
    "a certificate, another host beside the key": (
        [(USER, {**NEARBY, **CERTIFIED}), (EDITOR, {"baseUrl": ELSEWHERE, "apiKey": "new"})],
        ["new"],
    ),
    "a certificate, proxy of a workspace": (
        [(USER, {"kind": "vllm", "baseUrl": ELSEWHERE, **CERTIFIED}), (FILE, {"proxy": "http://evil:1"})],
        [],
    ),
    "a certificate of a workspace": ([(USER, NEARBY), (FILE, CERTIFIED)], []),
    "the key of a certificate alone": ([(USER, {**NEARBY, "clientKey": "/k.pem"})], []),
}


def read_secret(path: str) -> tuple[str | None, str]:
    return (None, "there is no such file.") if path == "/none" else (f"key of {path}", "")


@pytest.mark.parametrize("name", KEYS)
def test_a_key_goes_only_where_it_was_configured_for(name: str) -> None:
    layers, expected = KEYS[name]
    made = [say(layer, one("p", **fields)) for layer, fields in layers]
    provider = settings_of(*made, approved=everybody, read_secret=read_secret).providers["p"]
    assert sent(provider) == expected


def sent(provider: ProviderSettings) -> list[str]:
    """Secrets that go with a request: those bound to the origin in use."""
    credentials = provider.credentials
    if credentials is None or credentials.origin != provider.base_url.origin:
        return []
    key = [credentials.api_key] if credentials.api_key else []
    certificate = [credentials.client_cert, credentials.client_key] if credentials.client_cert else []
    return [
        *(secret.get_secret_value() for secret in (*key, *(value for _, value in credentials.headers))),
        *([" ".join(filter(None, certificate))] if certificate else []),
    ]


def test_a_header_of_an_approved_workspace_goes_to_its_address_and_replaces_nobodys_key() -> None:
    result = settings_of(
        say(USER, one("p", **HEADED)), say(FILE, one("p", headers={"X-Team": "t"})), approved=everybody
    )
    assert result.providers["p"].headers == (("X-Team", "t"),)
    assert sent(result.providers["p"]) == ["mine"]


def test_a_key_file_that_cannot_be_read_is_an_error_with_its_place() -> None:
    result = settings_of(say(USER, one("vllm", apiKeyFile="/none")), read_secret=read_secret)
    [problem] = result.problems
    assert str(problem) == "/user file:7: `providers.vllm.apiKeyFile`: there is no such file."
    assert (problem.severity, problem.key) == ("error", "providers.vllm.apiKeyFile")
    assert sent(result.providers["vllm"]) == []


def test_a_key_file_that_others_can_read_is_used_with_a_warning() -> None:
    result = settings_of(
        say(USER, one("vllm", apiKeyFile="/k")), read_secret=lambda path: ("k", "others can read it.")
    )
    [problem] = result.problems
    assert (problem.severity, problem.line) == ("warning", 7)
    assert sent(result.providers["vllm"]) == ["k"]


# warnings about addresses


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"baseUrl": "http://h", "apiKey": "k"}, "the key of `vllm` travels unencrypted to http://h."),
        ({"baseUrl": "http://h", "headers": {"X-Key": "k"}}, "travels unencrypted"),
        ({"baseUrl": "http://h"}, None),
        ({"baseUrl": "https://h", "apiKey": "k"}, None),
        ({"baseUrl": "http://127.0.0.1", "apiKey": "k"}, None),
        ({"baseUrl": "http://169.254.169.254"}, "link-local"),
        ({"baseUrl": "http://[fe80::1]"}, "link-local"),
        ({"baseUrl": "https://h", "verifyTls": False}, "certificate of `vllm` is not checked"),
        ({"baseUrl": "https://h", "verifyTls": True}, None),
    ],
)
def test_addresses_that_deserve_a_warning(fields: Data, words: str | None) -> None:
    found = warnings(settings_of(say(USER, one("vllm", **fields))))
    assert len(found) == (words is not None)
    assert all(words in text for text in found if words)


def test_a_key_that_is_not_sent_is_not_warned_about() -> None:
    layers = say(USER, one("vllm", **KEYED)), say(FILE, one("vllm", baseUrl="http://h"))
    assert warnings(settings_of(*layers, approved=everybody)) == []


# proxies and limits


def ask_environment(url: BaseUrl) -> str | None:
    return "http://environment:1"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"baseUrl": "https://h"}, "http://environment:1"),
        ({"baseUrl": "https://h", "proxy": "http://p:1"}, "http://p:1"),
        ({"baseUrl": "https://h", "proxy": ""}, None),
        ({"baseUrl": "http://localhost:1"}, None),
        ({"baseUrl": "http://localhost:1", "proxy": "http://p:1"}, None),
        ({"baseUrl": "http://[::1]:1", "proxy": "http://p:1"}, None),
    ],
)
def test_proxy(fields: Data, expected: str | None) -> None:
    result = settings_of(say(USER, one("vllm", **fields)), proxy_for=ask_environment)
    assert result.providers["vllm"].proxy == expected


def test_limits() -> None:
    near, far = NEARBY["baseUrl"], "https://h"
    remote = Timeouts(first_token=REMOTE_FIRST_TOKEN_SECONDS)
    for url, timeouts, expected in (
        (near, {}, Timeouts()),
        (far, {}, remote),
        (far, {"firstToken": 5}, Timeouts(first_token=5)),
        (
            near,
            {"connect": 1, "idle": 2, "stall": 3, "total": 4},
            Timeouts(connect=1, idle=2, stall=3, total=4),
        ),
    ):
        result = settings_of(say(USER, one("vllm", baseUrl=url, timeouts=timeouts)))
        assert result.providers["vllm"].timeouts == expected


def test_all_options_arrive() -> None:
    names = "temperature topP topK minP maxTokens stop seed"
    names += " repeatPenalty presencePenalty frequencyPenalty topLogprobs extraBody"
    values = (0.5, 0.9, 3, 0.1, 4, ("a", "b"), 5, 1.1, 0.2, 0.3, 2, {"n": 1})
    options = dict(zip(names.split(), values, strict=True))
    assert settings_of(say(USER, {"options": options})).options == GenerationOptions(*values)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("vllm", "VLLM_API_KEY"), ("openai-compatible", "OPENAI_COMPATIBLE_API_KEY"), ("lmstudio", None)],
)
def test_an_environment_variable_holds_the_key_of_one_provider(name: str, variable: str | None) -> None:
    """What a hint says to set has to be what counts."""
    from ollm_daemon.daemon import default_layer

    assert resolve([default_layer()]).providers[name].key_variable == variable
