"""Names to providers: resolved in whatever order they were written, never in a circle, never in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollm_daemon.domain import ProviderSettings
from ollm_daemon.errors import ConfigError, ErrorKind
from ollm_daemon.providers.catalog import KINDS
from ollm_daemon.registry import ProviderRegistry, Target
from ollm_daemon.urls import parse_base_url
from tests.growth import assert_linear

PROVIDERS = ("local", "vllm", "openai-compatible")


def registry_of(*names: str) -> ProviderRegistry:
    registry = ProviderRegistry()
    for name in names or PROVIDERS:
        settings = ProviderSettings(name, "openai-compatible", parse_base_url("http://127.0.0.1:9"))
        registry.register(name, KINDS["openai-compatible"](settings))
    return registry


def with_aliases(**aliases: str) -> ProviderRegistry:
    registry = registry_of()
    assert registry.register_aliases(aliases) == []
    return registry


def test_a_provider_is_found_by_its_name() -> None:
    registry = registry_of()
    assert [registry.resolve(name).name for name in PROVIDERS] == list(PROVIDERS)
    assert registry.names == sorted(PROVIDERS)
    assert [provider.name for provider in registry.providers()] == sorted(PROVIDERS)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vlm", "Did you mean `vllm`?"),
        ("VLLM", "Known: local, openai-compatible, vllm."),
        ("open-ai-compatible", "Did you mean `openai-compatible`?"),
        ("locale", "Did you mean `local`?"),
        ("fastt", "Did you mean `fast`?"),
        ("nonsense", "Known: local, openai-compatible, vllm."),
        ("", "Known: local, openai-compatible, vllm."),
        ("local/m", ""),
    ],
)
def test_an_unknown_name_is_an_error_that_suggests(name: str, hint: str) -> None:
    registry = with_aliases(fast="local")
    for resolve in (registry.resolve, registry.resolve_alias):
        with pytest.raises(ConfigError) as caught:
            resolve(name)
        assert f"`{name}`" in str(caught.value)
        assert caught.value.kind is ErrorKind.CONFIG
        assert hint in caught.value.hint


def test_a_name_is_given_once() -> None:
    registry = with_aliases(fast="local")
    for name in ("local", "fast"):
        with pytest.raises(ConfigError, match="is taken"):
            registry.register(name, registry.resolve("vllm"))
        with pytest.raises(ConfigError, match="is taken"):
            registry.register_alias(name, "vllm")
    assert registry.resolve("local").name == registry.resolve("fast").name == "local"


# aliases → what each leads to
ALIASES: list[tuple[dict[str, str], dict[str, Target]]] = [
    ({"a": "local"}, {"a": Target("local")}),
    ({"fast": "local/qwen2.5-coder:1.5b"}, {"fast": Target("local", "qwen2.5-coder:1.5b")}),
    ({"l": "vllm/meta-llama/Llama-3.1-8B"}, {"l": Target("vllm", "meta-llama/Llama-3.1-8B")}),
    ({"a": "b", "b": "local"}, {"a": Target("local"), "b": Target("local")}),
    ({"a": "b", "b": "local/m"}, {"a": Target("local", "m"), "b": Target("local", "m")}),
    ({"a": "b/m", "b": "local"}, {"a": Target("local", "m"), "b": Target("local")}),
    (
        {"a": "b/m/n", "b": "c", "c": "vllm"},
        {"a": Target("vllm", "m/n"), "b": Target("vllm"), "c": Target("vllm")},
    ),
    (
        {"a": "b/c", "b/c": "vllm", "b": "local"},
        {"a": Target("vllm"), "b/c": Target("vllm"), "b": Target("local")},
    ),
    ({"gpt-4.1": "vllm"}, {"gpt-4.1": Target("vllm")}),
]


@pytest.mark.parametrize(("aliases", "expected"), ALIASES)
def test_aliases_in_either_order(aliases: dict[str, str], expected: dict[str, Target]) -> None:
    for items in (aliases.items(), reversed(aliases.items())):
        registry = registry_of()
        assert registry.register_aliases(dict(items)) == []
        assert registry.aliases == expected


# aliases → words of each error, aliases that are known afterwards
REFUSED: list[tuple[dict[str, str], list[str], set[str]]] = [
    ({"a": "nobody"}, ["`a` leads to `nobody`, which is not known"], set()),
    ({"a": "nobody/m"}, ["`a` leads to `nobody/m`, which is not known"], set()),
    ({"a": "local/"}, ["not known"], set()),
    ({"a": "/m"}, ["not known"], set()),
    ({"a": ""}, ["not known"], set()),
    ({"a": "b/n", "b": "local/m"}, ["`a` leads to `b/n`"], {"b"}),
    ({"a": "a"}, ["in a circle: a → a."], set()),
    ({"a": "a/m"}, ["in a circle: a → a."], set()),
    ({"a": "b", "b": "a"}, ["in a circle: a → b → a."], set()),
    ({"a": "b/m", "b": "a/n", "x": "local"}, ["in a circle: a → b → a."], {"x"}),
    (
        {"x": "a", "a": "b", "b": "a"},
        ["in a circle: a → b → a.", "`x` leads to `a`, which is not known"],
        set(),
    ),
    ({"a": "b", "b": "a", "c": "d", "d": "c"}, ["a → b → a", "c → d → c"], set()),
    ({"local": "vllm"}, ["`local` is taken"], set()),
    ({"local": "local"}, ["`local` is taken"], set()),
    ({"local": "fast", "fast": "local"}, ["`local` is taken"], {"fast"}),
    ({"fast": "local/m", "local": "vllm"}, ["`local` is taken"], {"fast"}),
    ({"a": "nobody", "b": "a", "c": "local"}, ["`a` leads to", "`b` leads to"], {"c"}),
]


@pytest.mark.parametrize(("aliases", "words", "known"), REFUSED)
def test_what_cannot_be_an_alias_spoils_no_other(
    aliases: dict[str, str], words: list[str], known: set[str]
) -> None:
    registry = registry_of()
    errors = registry.register_aliases(aliases)
    assert len(errors) == len(words)
    assert all(word in str(error) for word, error in zip(words, errors, strict=True))
    assert set(registry.aliases) == known
    assert registry.resolve("local").name == "local"


def test_an_alias_says_what_it_may_have_meant() -> None:
    [error] = registry_of().register_aliases({"a": "vlm/m"})
    assert error.hint == "Did you mean `vllm`?"


ALIASED: list[tuple[str, tuple[str, str | None], bool]] = [
    ("local", ("local", None), False),
    ("near", ("local", None), False),
    ("fast", ("local", "qwen2.5-coder:1.5b"), True),
    ("turbo", ("local", "qwen2.5-coder:1.5b"), True),
]


@pytest.mark.parametrize(("name", "target", "names_a_model"), ALIASED)
def test_where_a_name_leads(name: str, target: tuple[str, str | None], names_a_model: bool) -> None:
    registry = with_aliases(near="local", fast="local/qwen2.5-coder:1.5b", turbo="fast")
    adapter, model = registry.resolve_alias(name)
    assert (adapter.name, model) == target
    assert registry.model_alias(name) == (Target(*target) if names_a_model else None)
    assert registry.model_alias("m") is registry.model_alias(None) is None


NAMES = st.sampled_from(["a", "b", "c", "d", "local", "vllm"])
TARGETS = (
    NAMES | st.tuples(NAMES, st.sampled_from(["m", "a"])).map("/".join) | st.sampled_from(["", "/", "x"])
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(NAMES, TARGETS), st.randoms())
def test_aliases_end_at_a_provider_in_any_order(aliases: dict[str, str], random: Random) -> None:
    known: list[dict[str, Target]] = []
    for items in (list(aliases.items()), shuffled(aliases, random)):
        registry = registry_of("local", "vllm")
        errors = registry.register_aliases(dict(items))
        known.append(dict(registry.aliases))
        assert all(target.provider in registry.names for target in registry.aliases.values())
        assert bool(errors) is (set(registry.aliases) != set(aliases))
        for alias, target in registry.aliases.items():
            assert registry.resolve(alias).name == target.provider
            assert follow(aliases, alias) == target
    assert known[0] == known[1]


def shuffled(aliases: dict[str, str], random: Random) -> list[tuple[str, str]]:
    items = list(aliases.items())
    random.shuffle(items)
    return items


def follow(aliases: dict[str, str], name: str) -> Target:
    """Where a name leads, one step after the other."""
    model = ""
    while name not in ("local", "vllm"):
        target = aliases[name]
        name, _, rest = target.partition("/")
        model = rest or model
    return Target(name, model or None)


@pytest.mark.parametrize("way", [iter, reversed], ids=["forwards", "backwards"])
@pytest.mark.parametrize("end", ["local", "nobody", "a0"])
def test_a_long_chain_takes_no_more_time_than_its_length(
    end: str, way: Callable[[list[tuple[str, str]]], Iterator[tuple[str, str]]]
) -> None:
    def register(count: int) -> None:
        aliases = [(f"a{number}", f"a{number + 1}") for number in range(count - 1)] + [(f"a{count - 1}", end)]
        errors = registry_of().register_aliases(dict(way(aliases)))
        assert len(errors) == {"local": 0, "nobody": count, "a0": 1}[end]

    assert_linear(register, 4_000)
