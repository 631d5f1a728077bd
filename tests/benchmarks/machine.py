"""What the figures were taken on."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("ollm-daemon", "anyio", "httptools", "httpx", "pydantic", "pygls")


def describe() -> dict[str, str]:
    """Facts in the order they are printed."""
    return {
        "Processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "System": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "Date": dt.datetime.now(dt.UTC).date().isoformat(),
        "Load before": load(),
    }


def load() -> str:
    """How many processes want to run: over one, five and fifteen minutes."""
    return ", ".join(f"{average:.2f}" for average in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
