"""The table scenario × backend, from the parametrization of the tests, and its place in the documentation."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from ollm_daemon.providers.backends import BACKENDS
from tests.conformance.evidence import CELLS, Evidence

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
LETTERS = {
    Evidence.REAL: "R",
    Evidence.CAPTURE: "C",
    Evidence.DOCUMENTED: "D",
    Evidence.UNSUPPORTED: "–",
}


def cells() -> dict[str, dict[str, set[Evidence]]]:
    """The evidence for each scenario and backend, once all test modules have been imported."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"{__package__}.{path.stem}")
    return CELLS


def table() -> str:
    """The table as Markdown, scenarios in the order of their names."""
    names = list(BACKENDS)
    lines = [f"| Scenario | {' | '.join(names)} |", f"|---|{':-:|' * len(names)}"]
    for scenario, row in sorted(cells().items()):
        lines.append(f"| {scenario} | {' | '.join(_cell(row.get(name, set())) for name in names)} |")
    return "\n".join(lines)


def _cell(evidence: set[Evidence]) -> str:
    return " ".join(LETTERS[kind] for kind in Evidence if kind in evidence)


def updated(page: str) -> str:
    """The page with the table of today between its marks."""
    pattern = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    assert pattern.search(page), f"{PAGE.name} has no {BEGIN} … {END}"
    return pattern.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", page)
