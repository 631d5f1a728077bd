"""Scenarios × subjects, with the evidence of each: filled in by the very parametrization of the tests.

@scenario("chat, streamed", [case(wire.backend, wire.evidence, wire) for wire in WIRES])
async def test_stream(case: Wire) -> None: ...
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

from ollm_daemon.providers.backends import BACKENDS


class Evidence(StrEnum):
    """Where the bytes of a test come from, the best first."""

    REAL = "real"
    """A server of that kind, running."""
    CAPTURE = "capture"
    """Bytes that such a server wrote once."""
    DOCUMENTED = "documented"
    """Bytes put together from its source or its documentation."""
    UNSUPPORTED = "not supported"
    """The server cannot, and the test asserts that the daemon says so."""


@dataclass(frozen=True)
class Case:
    """What a test is given about one subject."""

    subject: str
    evidence: Evidence
    value: Any
    note: str = ""


CELLS: dict[str, dict[str, set[Evidence]]] = {}
"""Scenario → subject → evidence, as the test modules have been imported."""


def case(subject: str, evidence: Evidence, value: Any, note: str = "") -> Case:
    """One case of a scenario; `note` tells several cases of one subject apart."""
    assert subject in BACKENDS, f"no such backend: {subject}"
    return Case(subject, evidence, value, note)


def documented(subject: str, value: Any, note: str = "") -> Case:
    """A case put together from source or documentation."""
    return case(subject, Evidence.DOCUMENTED, value, note)


def unsupported(subject: str, value: Any, note: str = "") -> Case:
    """A case of something that the server cannot do."""
    return case(subject, Evidence.UNSUPPORTED, value, note)


def scenario(name: str, cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Run the test for each case, as its argument `case`, and put them into the table under `name`."""
    params = []
    for one in cases:
        CELLS.setdefault(name, {}).setdefault(one.subject, set()).add(one.evidence)
        params.append(pytest.param(one.value, id="-".join(filter(None, (one.subject, one.note)))))
    assert params, name
    return pytest.mark.parametrize("case", params)
