"""Who answers: what a request names, what the settings name, and what steps in when nobody named anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ollm_daemon.config.layers import make_layer
from ollm_daemon.config.resolve import Outside, resolve
from ollm_daemon.daemon import Daemon, default_layer
from ollm_daemon.errors import UnreachableError
from ollm_daemon.server.configuration import Resolved
from ollm_daemon.server.context import find_named
from tests.fakes.peer import Peer, in_memory

pytestmark = pytest.mark.anyio

ALIASES = {"fast": "local/small", "near": "local"}

# user file, flags → provider and model of the settings; provider, model of the request → who answers
CASES: list[tuple[dict[str, Any], dict[str, Any], str | None, str | None, str, str | None]] = [
    ({}, {}, None, None, "local", None),
    ({"model": "fast"}, {}, None, None, "local", "small"),
    ({"provider": "vllm", "model": "fast"}, {}, None, None, "local", "small"),
    ({"model": "fast"}, {"provider": "vllm"}, None, None, "vllm", None),
    ({"model": "fast"}, {"provider": "near"}, None, None, "local", "small"),
    ({"provider": "vllm"}, {"model": "fast"}, None, None, "local", "small"),
    ({"model": "m"}, {"provider": "vllm"}, None, None, "vllm", "m"),
    ({"provider": "vllm"}, {}, None, "fast", "local", "small"),
    ({}, {"provider": "vllm"}, None, "fast", "local", "small"),
    ({"model": "fast"}, {}, "vllm", None, "vllm", None),
    ({}, {}, "vllm", "fast", "vllm", "fast"),
    ({}, {}, "local", "fast", "local", "small"),
    ({}, {}, "near", "m", "local", "m"),
    ({"model": "m"}, {}, "fast", None, "local", "m"),
    ({}, {}, "fast", None, "local", "small"),
]


def resolved_from(tmp_path: Path, user: dict[str, Any], flags: dict[str, Any]) -> tuple[Daemon, Resolved]:
    daemon = Daemon({"HOME": str(tmp_path)})
    layers = [
        default_layer(),
        make_layer("user file", {"aliases": ALIASES, **user}),
        make_layer("flags", flags),
    ]
    settings = resolve(layers, Outside())
    registry, _ = daemon.registry(settings)
    assert registry.register_aliases(settings.aliases) == []
    return daemon, Resolved(settings, registry)


@pytest.mark.parametrize(("user", "flags", "provider", "model", "who", "which"), CASES, ids=range(len(CASES)))
async def test_a_provider_from_a_stronger_place_outranks_a_model_s_alias(
    tmp_path: Path,
    user: dict[str, Any],
    flags: dict[str, Any],
    provider: str | None,
    model: str | None,
    who: str,
    which: str | None,
) -> None:
    _, resolved = resolved_from(tmp_path, user, flags)
    named = find_named(resolved, provider, model, configured=resolved.settings.model)
    assert (named.adapter.name, named.model) == (who, which)


async def test_the_embedded_model_answers_for_nobody_s_choice(tmp_path: Path) -> None:
    """It steps in for a user who said nothing, and not where Ollama or a model was asked for."""
    nobody = "http://127.0.0.1:1"
    for environment, params in (
        ({"OLLAMA_HOST": nobody}, {}),
        ({"OLLAMA_HOST": nobody}, {"model": "llama3.2:3b"}),
    ):
        async with in_memory(tmp_path, environment) as peer:
            await peer.initialize()
            error = await chat_error(peer, params)
            assert error["data"]["kind"] == "unreachable"
            assert "127.0.0.1:1" in error["message"]
    for user in ({"model": "m"}, {"providers": {"local": {"baseUrl": nobody}}}):
        daemon, resolved = resolved_from(tmp_path, user, {"providers": {"local": {"baseUrl": nobody}}})
        with pytest.raises(UnreachableError):
            await daemon.default_provider(resolved, resolved.settings.model)


async def chat_error(peer: Peer, params: dict[str, Any]) -> Any:
    error = await peer.error("ollm/chat", {"messages": [{"role": "user", "content": "x"}], **params})
    assert "embedded model answered" not in json.dumps(error)
    return error
