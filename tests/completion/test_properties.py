"""What holds of every answer at every cursor."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollm_daemon.completion.cursor import Cursor, read, wants_block
from ollm_daemon.completion.families import MARKS
from ollm_daemon.completion.filters import AnswerGuard, polish
from ollm_daemon.completion.languages import LANGUAGES, language_of
from tests.completion.golden_cases import all_cases

LINE_ENDS = re.compile(r"\r\n|\r|\n")
FRAGMENTS = (
    *("\n", "\n\n", "\r\n", "\r", "\n    ", "\n        ", "\n\t", " ", "    ", "\t", "\\", "\x0b", "\u2028"),
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "{|",
        "()",
        "};",
        ");",
        '"',
        "'",
        "`",
        '"""',
        "/*",
        "*/",
        "//",
        "# ",
        "--",
    ),
    *(
        "if x:",
        "else:",
        "} else {",
        "end",
        "fi",
        "def f(x):",
        "return x",
        "</p>",
        "<p>",
        "=>",
        "case 1:",
        "@a",
    ),
    *("a", "b", "foo", "foobar", "x = 1", "1", ", ", ";", ".", "é", "é", "👩‍💻", "漢字", "Here is the code:"),
    *("```", "```python", "Sure! ", "<|fim_middle|>", "<fim_", "middle>", "[PREFIX]", "</s>"),
)
TEXT = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join), st.text(max_size=60))
LANGUAGE = st.sampled_from(sorted(LANGUAGES)).map(language_of)
CURSOR = st.builds(Cursor, TEXT, TEXT, LANGUAGE)
GOLDEN = st.sampled_from(all_cases()).map(
    lambda case: (Cursor(case.prefix, case.suffix, language_of(case.language)), "".join(case.pieces))
)
PLACE = st.one_of(st.tuples(CURSOR, TEXT), st.tuples(GOLDEN.map(lambda place: place[0]), TEXT), GOLDEN)
SEVERAL = settings(max_examples=80)


def guarded(cursor: Cursor, pieces: list[str], *, block: bool, max_lines: int = 20) -> AnswerGuard:
    guard = AnswerGuard(cursor, block=block, max_lines=max_lines)
    for piece in pieces:
        guard.feed(piece)
    return guard


@SEVERAL
@given(PLACE, st.booleans())
def test_polishing_again_changes_nothing(place: tuple[Cursor, str], block: bool) -> None:
    cursor, answer = place
    once = polish(answer, cursor, block=block)
    assert polish(once, cursor, block=block) == once


@SEVERAL
@given(PLACE, st.booleans())
def test_an_offer_has_the_line_ends_of_its_document_and_no_marks(
    place: tuple[Cursor, str], block: bool
) -> None:
    cursor, answer = place
    offer = polish(answer, cursor, block=block)
    assert set(LINE_ENDS.findall(offer)) <= {cursor.eol}
    assert not any(mark in offer for mark in MARKS)
    assert not offer or offer.strip()


@SEVERAL
@given(PLACE)
def test_one_line_at_most_where_no_block_is_wanted(place: tuple[Cursor, str]) -> None:
    cursor, answer = place
    assert not LINE_ENDS.search(polish(answer, cursor, block=False))


@SEVERAL
@given(PLACE, st.integers(min_value=1, max_value=6))
def test_no_more_lines_are_offered_than_allowed(place: tuple[Cursor, str], lines: int) -> None:
    cursor, answer = place
    guard = guarded(cursor, [answer, "\n"], block=True, max_lines=lines)
    offer = polish(guard.text, cursor, block=True)
    assert len([line for line in LINE_ENDS.split(offer) if line.strip()]) <= lines
    assert guard.text.count("\n") <= 2 * lines + 1


@SEVERAL
@given(PLACE, st.booleans(), st.lists(st.integers(min_value=0, max_value=80), max_size=8))
@example((Cursor("", "", language_of("c")), "a\r\nb"), True, [2])
def test_pieces_change_nothing(place: tuple[Cursor, str], block: bool, cuts: list[int]) -> None:
    """The text that a guard has taken when it is done is the same however the answer came. Before that it
    is the whole of what came, but for a carriage return that the next piece may finish."""
    cursor, answer = place
    edges = sorted({0, len(answer), *(min(cut, len(answer)) for cut in cuts)})
    pieces = [answer[start:end] for start, end in pairwise(edges)]
    whole, parts = guarded(cursor, [answer], block=block), guarded(cursor, pieces, block=block)
    assert (parts.text, parts.done) == (whole.text, whole.done)


@SEVERAL
@given(PLACE, st.booleans())
def test_what_a_guard_takes_is_the_beginning_of_the_answer(place: tuple[Cursor, str], block: bool) -> None:
    cursor, answer = place
    guard, plain = AnswerGuard(cursor, block=block, max_lines=5), LINE_ENDS.sub("\n", answer)
    for character in answer:
        guard.feed(character)
        assert plain.startswith(guard.text)


@SEVERAL
@given(PLACE, st.booleans())
@example((Cursor("", '"', language_of("c")), '"\nHere is the code:\n'), True)
def test_what_a_guard_took_is_enough(place: tuple[Cursor, str], block: bool) -> None:
    """A guard only saves work: the whole answer, polished, gives the same."""
    cursor, answer = place
    guard = guarded(cursor, [answer], block=block, max_lines=1000)
    assert polish(guard.text, cursor, block=block) == polish(answer, cursor, block=block)


@SEVERAL
@given(PLACE, st.booleans())
@example((Cursor("//", '00"', language_of("c")), '00"'), False)
def test_an_offer_does_not_end_with_words_of_the_rest_of_the_line(
    place: tuple[Cursor, str], block: bool
) -> None:
    """It may end with the same brackets or quotes: its own, without which the line would not match."""
    cursor, answer = place
    rest = cursor.line_after.strip()
    offer = polish(answer, cursor, block=block)
    if len(rest) > 2 and offer.rstrip().endswith(rest):
        shorter = offer.rstrip().removesuffix(rest)
        context = cursor.prefix[-4000:]
        longer_is_better = (
            read(context + offer + cursor.line_after, cursor.language).odds
            < read(context + shorter + cursor.line_after, cursor.language).odds
        )
        assert longer_is_better


@SEVERAL
@given(PLACE, st.booleans())
def test_inserting_keeps_what_is_written(place: tuple[Cursor, str], block: bool) -> None:
    """An offer is an insertion: it needs no text of the user to be replaced or moved."""
    cursor, answer = place
    offer = polish(answer, cursor, block=block)
    begun = cursor.line_before.strip()
    assert not (offer and len(begun) >= 4 and re.search(r"\w", begun) and offer.startswith(begun))
    if cursor.is_blank:
        assert offer == offer.lstrip("\r\n")


@SEVERAL
@given(CURSOR, st.booleans())
def test_a_block_is_wanted_only_where_nothing_but_closing_marks_follows(
    cursor: Cursor, invoked: bool
) -> None:
    if wants_block(cursor, invoked=invoked):
        assert not re.search(r"\w", cursor.line_after)
        assert invoked or wants_block(cursor, invoked=True)
