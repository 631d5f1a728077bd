"""What a client is told when a vLLM is killed while it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
import pytest

from tests.heavy.conftest import KEY
from tests.heavy.servers import Server
from tests.heavy.talking import VIA, Outcome, Place, talk

pytestmark = [pytest.mark.heavy, pytest.mark.anyio]

SOON = 8.0
"""Seconds between the kill and the error; an engine's death is noticed by the process in front of it."""
ENDLESS = {"maxTokens": 2000, "extraBody": {"ignore_eos": True}}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("victim", "kind", "message"),
    [
        ("EngineCore", "backend", "The server stopped with an error: EngineCore encountered an issue."),
        ("", "stream_truncated", "cut its answer short"),
    ],
    ids=["engine", "server"],
)
async def test_killed_in_mid_answer(
    start_tiny_vllm: Callable[[], AbstractContextManager[Server]],
    tmp_path: Path,
    victim: str,
    kind: str,
    message: str,
) -> None:
    with start_tiny_vllm() as server:
        place = Place(server.url, "vllm", "tiny", key=KEY)
        begun: list[str] = []
        killed: list[float] = []
        outcomes: dict[str, tuple[Outcome, float]] = {}

        async def one(via: str) -> None:
            def first_text() -> None:
                begun.append(via)
                if len(begun) == len(VIA):
                    server.kill(victim)
                    killed.append(time.monotonic())

            async with talk(via, place, tmp_path) as way:
                outcome = await way.chat("the sea", options=ENDLESS, at_first_text=first_text)
                outcomes[via] = outcome, time.monotonic()

        async with anyio.create_task_group() as tasks:
            for via in VIA:
                tasks.start_soon(one, via)
        for outcome, ended in outcomes.values():
            assert ended - killed[0] < SOON
            assert outcome.error.kind == kind
            assert outcome.error.partial
            assert message in outcome.error.message

        server.process.wait(60)
        async with talk("daemon", place, tmp_path) as way:
            assert (await way.chat("the sea")).error.kind == "unreachable"
