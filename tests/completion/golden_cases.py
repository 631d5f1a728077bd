"""Reads `golden/LANGUAGE.txt`: what a model answers at a cursor, and what a developer wants to see of it.

A case is

    === what it is about (block)
    def area(r):
        |
    --- answer
    return 3.14 * r * r
    --- offer
    return 3.14 * r * r

The first text is the document, with one `|` at the cursor. In brackets stands what may be offered there,
`line` or `block`, and further words: `invoked` where the user asked for it, `crlf` for a document with such
line ends, `mark ¦` where the document holds a `|` of its own. `--- nothing` takes the place of an offer of
nothing. A line end before a `---` is none of the text. `␣` and `⇥` are a space and a tab that would not be
seen. `--- answer` more than once gives an answer in pieces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden")
_HEADER = re.compile(r"(?P<name>.+) \((?P<words>[^()]+)\)")


@dataclass(frozen=True)
class Case:
    """One answer at one cursor."""

    language: str
    name: str
    prefix: str
    suffix: str
    pieces: tuple[str, ...]
    offer: str
    block: bool
    invoked: bool

    @property
    def identifier(self) -> str:
        return f"{self.language}: {self.name}"


def all_cases() -> list[Case]:
    """Every case there is."""
    return [case for path in sorted(GOLDEN.glob("*.txt")) for case in read_cases(path)]


def read_cases(path: Path) -> list[Case]:
    """The cases of one language."""
    texts = re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [_read_case(path.stem, text.removesuffix("\n")) for text in texts]


def _read_case(language: str, text: str) -> Case:
    header, _, body = text.partition("\n")
    match = _HEADER.fullmatch(header)
    assert match, f"{language}: {header}"
    words = match["words"].split(", ")
    mark = next((word.removeprefix("mark ") for word in words if word.startswith("mark ")), "|")
    document, *parts = re.split(r"\n--- (answer|offer|nothing)\n?", body)
    document, *parts = (_visible(part) for part in (document, *parts))
    if "crlf" in words:
        document = document.replace("\n", "\r\n")
    prefix, found, suffix = document.partition(mark)
    assert found, header
    assert mark not in suffix, header
    kinds, contents = parts[::2], parts[1::2]
    assert kinds[-1] in ("offer", "nothing"), header
    assert set(kinds[:-1]) <= {"answer"}, header
    offer = contents[-1]
    assert bool(offer) is (kinds[-1] == "offer"), header
    block = words[0] == "block"
    assert block or words[0] == "line", header
    return Case(
        language,
        match["name"],
        prefix,
        suffix,
        tuple(contents[:-1]),
        offer.replace("\n", "\r\n") if "crlf" in words else offer,
        block,
        "invoked" in words,
    )


def _visible(text: str) -> str:
    return text.replace("␣", " ").replace("⇥", "\t")
