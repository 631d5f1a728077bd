"""Standard streams that are there: a process may be started with some of them closed."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Open the null device in the place of each standard descriptor that is closed.

    Otherwise the next file or pipe would take its number, and get what is meant for a person or a client.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
