"""Models pulled, loaded, unloaded and deleted; and where a server cannot, what to do instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ollm_daemon.domain import ModelProgress
from ollm_daemon.errors import OllmError, UnsupportedError
from ollm_daemon.providers import _life_cycle
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.providers.facts import ModelAction
from tests.conformance.captured_others import LLAMACPP_WIRE
from tests.conformance.documented import lmstudio, localai, tabbyapi, textgen
from tests.conformance.documented._shapes import fastapi
from tests.conformance.evidence import Case, documented, scenario, unsupported
from tests.conformance.life_cycle import DELETES, PULLS, Change
from tests.conformance.life_cycle_memory import LOADS, UNLOADS
from tests.conformance.subjects import WIRES
from tests.conformance.wire import Wire
from tests.fakes.upstream import Reply, Request

pytestmark = pytest.mark.anyio


async def drain(provider: ProviderAdapter, action: ModelAction, model: str) -> list[ModelProgress]:
    """All progress of one action."""
    async with provider.change_model(action, model) as progress:
        return [step async for step in progress]


async def run(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the action, hold everything against what was expected."""
    monkeypatch.setattr(_life_cycle, "POLL_SECONDS", 0.0)
    left = {path: list(replies) for path, replies in change.answers.items()}

    def answer(request: Request) -> Reply:
        replies = left.get(request.path)
        if not replies:
            return change.wire.unknown(request)
        return replies.pop(0) if len(replies) > 1 else replies[0]

    async with replace(change.wire, gets={}, unknown=answer).serving(key=True) as (upstream, provider):
        if change.error is None:
            assert tuple(await drain(provider, change.action, change.model)) == change.progress
        else:
            with pytest.raises(OllmError) as caught:
                await drain(provider, change.action, change.model)
            assert (caught.value.kind, change.words in str(caught.value)) == (change.error, True), (
                caught.value
            )
    sent = [
        (request.method, request.path, request.json() if request.body else None)
        for request in upstream.requests
    ]
    assert sent == list(change.sent)
    assert all(request.header("authorization") for request in upstream.requests)


def instead(action: ModelAction) -> list[Case]:
    """Servers that have no such action."""
    return [
        unsupported(wire.backend, (wire, action))
        for wire in WIRES
        if action not in BACKENDS[wire.backend].actions
    ]


async def check(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(case, Change):
        await run(case, monkeypatch)
        return
    wire, action = case
    async with wire.serving() as (upstream, provider):
        assert action not in provider.capabilities.actions
        with pytest.raises(UnsupportedError, match="a model for others") as caught:
            await drain(provider, action, "m")
    assert caught.value.hint.endswith(".")
    assert "{" not in caught.value.hint
    assert upstream.requests == []


@scenario("pull", [*PULLS, *instead("pull")])
async def test_pull(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(case, monkeypatch)


@scenario("load", [*LOADS, *instead("load")])
async def test_load(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(case, monkeypatch)


@scenario("unload", [*UNLOADS, *instead("unload")])
async def test_unload(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(case, monkeypatch)


@scenario("delete", [*DELETES, *instead("delete")])
async def test_delete(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(case, monkeypatch)


@scenario(
    "the hint names the administrator's key",
    [documented(wire.backend, wire) for wire in (localai.WIRE, textgen.WIRE, tabbyapi.WIRE)],
)
async def test_admin_hint(case: Wire) -> None:
    refused = fastapi({"detail": "Invalid admin key"}, "401 Unauthorized")
    async with replace(case, unknown=lambda _: refused).serving(key=True) as (_, provider):
        with pytest.raises(OllmError) as caught:
            await drain(provider, "unload", "m")
    assert caught.value.hint.startswith(f"This takes {BACKENDS[case.backend].title}'s administrator key.")


@scenario(
    "the hint of an older version",
    [
        unsupported("lmstudio", (lmstudio.WIRE, "load", "Update LM Studio to 0.4")),
        unsupported("llamacpp", (LLAMACPP_WIRE, "unload", "without `-m`")),
    ],
)
async def test_absent(case: tuple[Wire, ModelAction, str]) -> None:
    wire, action, words = case
    async with wire.serving() as (_, provider):
        with pytest.raises(UnsupportedError) as caught:
            await drain(provider, action, "m")
    assert words in caught.value.hint
