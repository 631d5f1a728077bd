"""Reasoning between tags is told from the answer, however the text is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollm_daemon.domain import TextDelta, ThinkingDelta
from ollm_daemon.providers._thinking import ThinkSplitter
from ollm_daemon.providers.base import EventBatch

CASES = {
    "plain": ("Hello", "", "Hello"),
    "empty": ("", "", ""),
    "tagged": ("<think>hm, so</think>\n\nYes.", "hm, so", "Yes."),
    "after white space": ("\n <think>hm</think>Yes.", "hm", "Yes."),
    "nothing thought": ("<think>\n\n</think>\n\nYes.", "\n\n", "Yes."),
    "never closed": ("<think>hm, so", "hm, so", ""),
    "half a closing tag": ("<think>hm</thi", "hm</thi", ""),
    "half an opening tag": ("<thi", "", "<thi"),
    "another tag": ("<table><tr>", "", "<table><tr>"),
    "a tag that looks like one": ("<thinker>x", "", "<thinker>x"),
    "in the middle": ("Use <think>x</think>.", "", "Use <think>x</think>."),
    "a second one": ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    "an angle inside": ("<think>a < b </ c</think>d", "a < b </ c", "d"),
    "Magistral": ("[THINK]hm[/THINK]Yes.", "hm", "Yes."),
    "Seed-OSS": ("<seed:think>hm</seed:think>Yes.", "hm", "Yes."),
    "white space only": ("\n\n", "", "\n\n"),
    "a long gap": (" " * 40 + "<think>x</think>", "", " " * 40 + "<think>x</think>"),
}


def split(*pieces: str) -> tuple[str, str]:
    splitter, batch = ThinkSplitter(), EventBatch()
    for piece in pieces:
        splitter.feed(piece, batch)
    splitter.finish(batch)
    events = batch.take()
    thought = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    return thought, "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("name", CASES)
def test_whole_and_one_character_at_a_time(name: str) -> None:
    text, thought, answer = CASES[name]
    assert split(text) == (thought, answer)
    assert split(*text) == (thought, answer)


@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 60), max_size=6))
def test_any_cut_gives_the_same(name: str, cuts: list[int]) -> None:
    text = CASES[name][0]
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert split(*(text[start:end] for start, end in pairwise(edges))) == split(text)


def test_a_plain_answer_is_not_looked_at_twice() -> None:
    splitter, batch = ThinkSplitter(), EventBatch()
    splitter.feed("H", batch)
    assert splitter.done
