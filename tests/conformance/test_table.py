"""The published table is that of the tests as they are."""

from __future__ import annotations

from ollm_daemon.providers.backends import BACKENDS
from tests.conformance.table import PAGE, cells, updated


def test_table_is_up_to_date() -> None:
    page = PAGE.read_text("utf-8")
    assert updated(page) == page, "run `python -m tests.conformance`"


def test_every_backend_is_a_subject() -> None:
    for scenario in ("chat, streamed", "cut in mid-answer", "tools offered", "one tool by its name"):
        assert cells()[scenario].keys() == BACKENDS.keys(), scenario
