"""Processes that are measured: started, read line by line, asked what they have used, stopped by id."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds after which something that should have happened counts as never happening."""
MEGABYTE = 1 << 20
_CPU_CLOCK = 2


class BenchmarkError(Exception):
    """A measurement cannot be made; the sentence says why."""


class Lines:
    """Lines of a pipe, each waited for within a time."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe
        self._descriptor = pipe.fileno()
        self._kept = b""

    def next(self, seconds: float = PATIENCE) -> str:
        """The next line.

        Raises:
            BenchmarkError: None came in time, or the pipe has ended.
        """
        end = time.monotonic() + seconds
        while b"\n" not in self._kept:
            if not select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
                raise BenchmarkError(f"nothing was said for {seconds:g} s")
            data = os.read(self._descriptor, 1 << 16)
            if not data:
                raise BenchmarkError("the process ended")
            self._kept += data
        line, _, self._kept = self._kept.partition(b"\n")
        return line.decode()

    def drop(self) -> str:
        """Forget what has been said so far; gives its last line."""
        while select.select([self._descriptor], [], [], 0)[0]:
            data = os.read(self._descriptor, 1 << 16)
            if not data:
                break
            self._kept += data
        said, self._kept = self._kept, b""
        return said.decode(errors="replace").strip().rpartition("\n")[2]


class Child:
    """One process, killed with its descendants at the end of the block."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.started = time.monotonic_ns()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdin
        assert self._process.stdout
        self.stdin = self._process.stdin
        self.stdout = self._process.stdout
        self.lines = Lines(self._process.stdout)
        self.complaints = Lines(self._process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, to the nanosecond."""
        return _cpu_seconds(self._process.pid)

    @property
    def resident_mb(self) -> float:
        """Memory it holds now."""
        return _status_mb(self._process.pid, "VmRSS")

    @property
    def peak_mb(self) -> float:
        """The most memory it has held."""
        return _status_mb(self._process.pid, "VmHWM")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._process.pid, number)

    def whole_family(self) -> tuple[float, float]:
        """CPU seconds and memory of the process and its descendants."""
        family = self._family()
        return sum(map(_cpu_seconds, family)), sum(_status_mb(pid, "VmRSS") for pid in family)

    def last_words(self) -> str:
        """The last line it wrote to standard error."""
        return self.complaints.drop()

    def _family(self) -> list[int]:
        """The process and its descendants."""
        family = [self._process.pid]
        for pid in family:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    family += map(int, (task / "children").read_text().split())
        return family


def _cpu_seconds(pid: int) -> float:
    # What clock_getcpuclockid(3) computes; /proc counts in steps of 10 ms.
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def _status_mb(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith(field))


class Upstream(Child):
    """The model server of `upstream`."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-m", "tests.benchmarks.upstream"])
        self.url = f"http://127.0.0.1:{self.wait_for('listening')}"

    def wait_for(self, *events: str) -> int:
        """When (ns of CLOCK_MONOTONIC) the first of these events happens."""
        while True:
            event, value = self.lines.next().split()
            if event in events:
                return int(value)

    def forget(self) -> None:
        """Drop what it has reported so far."""
        self.lines.drop()


def bare_environment(home: Path, *, offline: bool = False) -> dict[str, str]:
    """Nothing of the user's own settings; `offline` points programs that call home at a closed port."""
    home.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home)}
    if offline:
        environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return environment
