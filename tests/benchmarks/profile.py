"""Where the microseconds of a token go: a burst, and tokens that are read one by one.

    python -m tests.benchmarks.profile

Prints one table in Markdown. The daemon's CPU time per token is measured from outside and without the
sampling; the samples of `profiled_daemon` say how it is shared out.
"""

from __future__ import annotations

import collections
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.candidates import OURS, PYTHON, SPECS, DaemonProcess
from tests.benchmarks.processes import PATIENCE, BenchmarkError, Child, Upstream, bare_environment
from tests.benchmarks.report import Table, number
from tests.benchmarks.scenario import Scenario

SCENARIOS = {
    "burst": Scenario("burst", 1_000_000),
    "one by one": Scenario("paced", 20_000, gap_ms=0.3),
}
# a part of the daemon's work → files and functions, of which the first that matches counts
PARTS: Mapping[str, str] = {
    "waiting for sockets (`epoll`)": r"/selectors\.py",
    "reading the socket (`recv`)": r"/asyncio/selector_events\.py:.*(_read_ready|_add_reader|resume|pause)",
    "HTTP framing (httptools, joining chunks)": r"/providers/(_transport|_http)\.py",
    "splitting lines and events": r"/providers/(_sse|_ndjson)\.py",
    "decoding JSON (`pydantic_core`)": r"/(providers/_json|json_text)\.py",
    "what a chunk says": r"/providers/",
    "collecting the answer": r"/generation\.py",
    "encoding deltas": r"/server/(deltas|framing|convert|handlers|dispatch)\.py",
    "writing to the client": r"/server/(outbox|transports)\.py|/asyncio/unix_events\.py",
    "event loop, timers and tasks": r"/asyncio/|/anyio/",
    "everything else": r"",
}


def main() -> int:
    """Measure and print; gives the exit code."""
    columns = {}
    try:
        with tempfile.TemporaryDirectory(prefix="ollm-profile-") as folder, Upstream() as upstream:
            for name, scenario in SCENARIOS.items():
                cost = _cost_per_token(Path(folder), upstream, scenario)
                shares = _shares(Path(folder), upstream, scenario)
                columns[name] = {part: share * cost for part, share in shares.items()} | {"**all**": cost}
    except BenchmarkError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 2
    about = "CPU µs of the daemon per token, over standard streams."
    table = Table("Where they go", about, ("", *columns))
    for part in (*PARTS, "**all**"):
        table.rows.append([part, *(number(column[part]) for column in columns.values())])
    print(table.markdown())
    return 0


def _cost_per_token(folder: Path, upstream: Upstream, scenario: Scenario) -> float:
    """Microseconds of CPU per token, undisturbed."""
    with Child((*OURS, "--stdio"), bare_environment(folder)) as child:
        daemon = DaemonProcess(child, SPECS["stdio"], upstream.url)
        daemon.stream(Scenario("burst", 10_000))
        before = child.cpu_seconds
        daemon.stream(scenario)
        return (child.cpu_seconds - before) / scenario.tokens * 1e6


def _shares(folder: Path, upstream: Upstream, scenario: Scenario) -> dict[str, float]:
    """Part of the CPU time that each part of the work takes."""
    file = folder / f"{scenario.mode}.json"
    command = (*PYTHON[:1], "-m", "tests.benchmarks.profiled_daemon", str(file))
    with Child(command, bare_environment(folder)) as child:
        daemon = DaemonProcess(child, SPECS["stdio"], upstream.url)
        daemon.stream(Scenario("burst", 10_000))
        child.signal(signal.SIGUSR1)
        daemon.stream(scenario)
        child.signal(signal.SIGUSR2)
        end = time.monotonic() + PATIENCE
        while not file.exists():
            if time.monotonic() > end:
                raise BenchmarkError("the profiled daemon does not say what it has seen")
            time.sleep(0.01)
    counts: collections.Counter[str] = collections.Counter()
    for place, count in json.loads(file.read_text()).items():
        counts[next(part for part, pattern in PARTS.items() if re.search(pattern, place))] += count
    return {part: counts[part] / counts.total() for part in PARTS}


if __name__ == "__main__":
    sys.exit(main())
