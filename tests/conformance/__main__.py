"""`python -m tests.conformance` writes the table of what is tested into docs/conformance.md."""

from __future__ import annotations

from tests.conformance.table import PAGE, updated

PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
