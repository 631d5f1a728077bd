"""What became of holes: scores by writer, kind and language, as Markdown and JSON. Pure."""

from __future__ import annotations

import difflib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.fim.holes import Hole

COMPARED = 2_000
"""Characters of a text that similarity looks at."""
HEADER = ("", "holes", "exact", "first line", "similarity", "characters", "empty", "mean ms")


@dataclass(frozen=True, slots=True)
class Filling:
    """One hole, filled by one writer."""

    writer: str
    language: str
    kind: str
    path: str
    truth: str
    text: str
    ms: float

    @property
    def is_exact(self) -> bool:
        """Whether it is what stood there, but for white space around it."""
        return self.text.strip() == self.truth.strip()

    @property
    def is_begun_right(self) -> bool:
        """Whether its first line is the one that stood there."""
        return _first_line(self.text) == _first_line(self.truth)

    @property
    def similarity(self) -> float:
        """How much it has in common with what stood there, from 0 to 1 (Ratcliff and Obershelp)."""
        one, two = (text.strip()[:COMPARED] for text in (self.truth, self.text))
        return difflib.SequenceMatcher(None, one, two, autojunk=False).ratio() if two else 0.0


def filling(writer: str, hole: Hole, text: str, ms: float) -> Filling:
    """What a writer made of a hole."""
    return Filling(writer, hole.language, hole.kind, str(hole.path), hole.truth, text, ms)


def scores(fillings: Sequence[Filling]) -> dict[str, float]:
    """Scores of some fillings."""
    return {
        "holes": len(fillings),
        "exact": _share([one.is_exact for one in fillings]),
        "first line": _share([one.is_begun_right for one in fillings]),
        "similarity": statistics.fmean(one.similarity for one in fillings),
        "characters": statistics.fmean(len(one.text) for one in fillings),
        "empty": _share([not one.text.strip() for one in fillings]),
        "mean ms": statistics.fmean(one.ms for one in fillings),
    }


def table(fillings: Sequence[Filling]) -> dict[str, dict[str, float]]:
    """Scores by row title: all, then each kind and language, each writer side by side."""
    kinds = dict.fromkeys((one.kind, one.language) for one in fillings)
    writers = dict.fromkeys(one.writer for one in fillings)
    rows = {f"all, {writer}": [one for one in fillings if one.writer == writer] for writer in writers}
    for kind, language in sorted(kinds):
        for writer in writers:
            rows[f"{kind}, {language}, {writer}"] = [
                one for one in fillings if (one.kind, one.language, one.writer) == (kind, language, writer)
            ]
    return {title: scores(some) for title, some in rows.items() if some}


def markdown(facts: Mapping[str, str], fillings: Sequence[Filling]) -> str:
    """The report."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", _row(HEADER), _row(["---", *["--:"] * (len(HEADER) - 1)])]
    for title, values in table(fillings).items():
        cells = [
            f"{values['holes']:.0f}",
            *(f"{values[name]:.0%}" for name in ("exact", "first line")),
            f"{values['similarity']:.2f}",
            f"{values['characters']:.0f}",
            f"{values['empty']:.0%}",
            f"{values['mean ms']:.0f}",
        ]
        lines.append(_row([title, *cells]))
    return "\n".join([*lines, ""])


def write_json(path: Path, facts: Mapping[str, str], fillings: Sequence[Filling]) -> None:
    """Facts, scores, and every filling."""
    document = {
        "facts": dict(facts),
        "scores": table(fillings),
        "fillings": [asdict(one) for one in fillings],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
