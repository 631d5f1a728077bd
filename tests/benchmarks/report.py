"""Tables, figures and where they go: the terminal, a Markdown file, a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.limits import LIMITS
from tests.benchmarks.rounds import Samples

BEGIN = "<!-- begin: written by python -m tests.benchmarks -->"
END = "<!-- end: written by python -m tests.benchmarks -->"


@dataclass(slots=True)
class Table:
    """One table: a title, a sentence, a header and rows of text."""

    title: str
    about: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """As Markdown."""
        bars = ["---", *("--:" for _ in self.header[1:])]
        lines = [_row(self.header), _row(bars), *map(_row, self.rows)]
        return "\n".join([f"### {self.title}", "", self.about, "", *lines, ""])


@dataclass(slots=True)
class Outcome:
    """What a measurement gives.

    Attributes:
        tables: For a reader.
        figures: By their names in `limits`.
        samples: All that was measured, by name.
    """

    tables: list[Table]
    figures: dict[str, float]
    samples: dict[str, Samples]


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def missed(figures: Mapping[str, float]) -> list[str]:
    """Names of the figures that are over their limits."""
    return [name for name, value in figures.items() if value > LIMITS[name].most]


def check_lines(figures: Mapping[str, float]) -> list[str]:
    """One line per figure: name, value, limit, verdict."""
    over = missed(figures)
    rows = [
        (
            LIMITS[name].title.replace("`", ""),
            f"{number(figures[name])} {LIMITS[name].unit}".strip(),
            f"{LIMITS[name].most:g} {LIMITS[name].unit}".strip(),
            "MISSED" if name in over else "ok",
        )
        for name in LIMITS
        if name in figures
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return [
        f"{title:<{widths[0]}}  {value:>{widths[1]}}  {most:>{widths[2]}}  {verdict}"
        for title, value, most, verdict in rows
    ]


def markdown(machine: Mapping[str, str], outcomes: Mapping[str, Outcome]) -> str:
    """The whole report."""
    figures = all_figures(outcomes)
    over = missed(figures)
    limits = Table(
        "Limits",
        "What `--check` holds the daemon to.",
        ("", "measured", "limit", ""),
        [
            (
                limit.title,
                f"{number(figures[name])} {limit.unit}".strip() if name in figures else "not measured",
                f"{limit.most:g} {limit.unit}".strip(),
                "" if name not in figures else "**missed**" if name in over else "ok",
            )
            for name, limit in LIMITS.items()
        ],
    )
    facts = [_row(("Machine", "")), _row(("---", "---")), *map(_row, machine.items()), ""]
    tables = [limits, *(table for outcome in outcomes.values() for table in outcome.tables)]
    return "\n".join([*facts, *(table.markdown() for table in tables)])


def write_markdown(path: Path, text: str) -> None:
    """Put the report between the markers of a file, or into a new one."""
    before, _, rest = path.read_text().partition(BEGIN) if path.exists() else ("", "", "")
    after = rest.partition(END)[2].removeprefix("\n")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}\n{after}")


def has_place(path: Path) -> bool:
    """Whether a report can be written: the file is new, or has markers."""
    if not path.exists():
        return True
    text = path.read_text()
    return BEGIN in text and END in text.partition(BEGIN)[2]


def write_json(path: Path, machine: Mapping[str, str], outcomes: Mapping[str, Outcome]) -> None:
    """Every sample, every figure and its limit."""
    figures = {
        name: {"value": value, "limit": LIMITS[name].most, "unit": LIMITS[name].unit}
        for name, value in all_figures(outcomes).items()
    }
    samples = {
        measurement: {name: taken.rounds for name, taken in outcome.samples.items()}
        for measurement, outcome in outcomes.items()
    }
    document = {"machine": dict(machine), "figures": figures, "samples": samples}
    path.write_text(json.dumps(document, indent=1) + "\n")


def all_figures(outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    """Figures of all measurements."""
    return {name: value for outcome in outcomes.values() for name, value in outcome.figures.items()}


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
