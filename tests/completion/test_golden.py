"""What is offered of an answer, by example: `golden/LANGUAGE.txt`, written as `golden_cases.py` says."""

from __future__ import annotations

from collections import Counter

import pytest

from ollm_daemon.completion.cursor import Cursor, wants_block
from ollm_daemon.completion.filters import AnswerGuard, polish
from ollm_daemon.completion.languages import language_of
from tests.completion.golden_cases import Case, all_cases

CASES = all_cases()
LEAST_CASES, LEAST_LANGUAGES = 170, 17
MAX_LINES = 20


def offered(case: Case, pieces: tuple[str, ...]) -> str:
    """What is offered when the answer comes in pieces, as it does in the daemon."""
    cursor = Cursor(case.prefix, case.suffix, language_of(case.language))
    guard = AnswerGuard(cursor, block=case.block, max_lines=MAX_LINES)
    for piece in pieces:
        guard.feed(piece)
    return polish(guard.text, cursor, block=case.block)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.identifier)
def test_case(case: Case) -> None:
    """The decision, the offer, the same offer whatever the pieces, and an offer of an offer is itself."""
    cursor = Cursor(case.prefix, case.suffix, language_of(case.language))
    assert wants_block(cursor, invoked=case.invoked) is case.block
    assert offered(case, case.pieces) == case.offer
    answer = "".join(case.pieces)
    for size in (1, 2, 3, 7, 1000):
        pieces = tuple(answer[start : start + size] for start in range(0, len(answer), size))
        assert offered(case, pieces) == case.offer, f"in pieces of {size}"
    assert polish(case.offer, cursor, block=case.block) == case.offer


def test_there_are_enough_cases_and_each_has_its_own_name() -> None:
    assert len(CASES) >= LEAST_CASES
    assert len({case.language for case in CASES}) >= LEAST_LANGUAGES
    assert [name for name, count in Counter(case.identifier for case in CASES).items() if count > 1] == []
