"""Reasoning that a server leaves in the text, between tags, told from the answer.

Only a tag at the very beginning of an answer counts, so an answer that speaks about tags is left alone.
Tags may be cut anywhere between pieces. No I/O.
"""

from __future__ import annotations

from enum import Enum, auto

from ollm_daemon.providers.base import EventBatch

_TAGS = (
    ("<think>", "</think>"),  # DeepSeek, Qwen and most others
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
)
_LONGEST_GAP = 32
"""White space before a tag that is still the beginning of an answer."""


class _Stage(Enum):
    START = auto()
    THINKING = auto()
    GAP = auto()
    ANSWER = auto()


class ThinkSplitter:
    """Sends the pieces of one answer to the channel they belong to."""

    def __init__(self) -> None:
        self._stage = _Stage.START
        self._held = ""
        self._end = ""

    @property
    def done(self) -> bool:
        """Whether all that follows is answer, so that nobody need ask any more."""
        return self._stage is _Stage.ANSWER

    def feed(self, text: str, batch: EventBatch) -> None:
        """Take a piece of text."""
        if not text:
            return
        text = self._held + text
        self._held = ""
        if self._stage is _Stage.START:
            text = self._open(text)
        if self._stage is _Stage.THINKING:
            text = self._close(text, batch)
        if self._stage is _Stage.GAP:
            text = text.lstrip("\n")
            if text:
                self._stage = _Stage.ANSWER
        if text:
            batch.text(text)

    def finish(self, batch: EventBatch) -> None:
        """The answer is over: what is held was no tag."""
        held, self._held = self._held, ""
        if held:
            (batch.thinking if self._stage is _Stage.THINKING else batch.text)(held)

    def _open(self, text: str) -> str:
        """The text behind an opening tag, or text that is not held back."""
        rest = text.lstrip()
        for start, end in _TAGS if len(text) - len(rest) <= _LONGEST_GAP else ():
            if rest.startswith(start):
                self._stage, self._end = _Stage.THINKING, end
                return rest.removeprefix(start)
            if start.startswith(rest):
                self._held = text
        if self._held:
            return ""
        self._stage = _Stage.ANSWER
        return text

    def _close(self, text: str, batch: EventBatch) -> str:
        """Send reasoning on its way; gives the answer behind its closing tag."""
        thinking, closed, rest = text.partition(self._end)
        if not closed:
            kept = _overlap(text, self._end)
            self._held = text[len(text) - kept :]
            thinking = text[: len(text) - kept]
        else:
            self._stage = _Stage.GAP
        if thinking:
            batch.thinking(thinking)
        return rest


def _overlap(text: str, tag: str) -> int:
    """How much of the end of `text` may be the beginning of `tag`."""
    return next(
        (size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0
    )
