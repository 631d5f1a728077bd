"""`ollm-daemon` on standard streams that tells where its CPU time goes.

Between SIGUSR1 and SIGUSR2 the process's own CPU clock interrupts it, and the innermost Python function is
noted; what it calls in C counts as its own. At SIGUSR2 the counts are written as JSON.

    python -m tests.benchmarks.profiled_daemon FILE
"""

from __future__ import annotations

import collections
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from ollm_daemon import cli

PERIOD_SECONDS = 0.001


def main(file: Path) -> int:
    """Run the daemon; gives its exit code."""
    places: collections.Counter[str] = collections.Counter()

    def note(_signal: int, frame: FrameType | None) -> None:
        if frame is not None:
            places[f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"] += 1

    def begin(_signal: int, _frame: FrameType | None) -> None:
        places.clear()
        signal.setitimer(signal.ITIMER_PROF, PERIOD_SECONDS, PERIOD_SECONDS)

    def end(_signal: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        temporary = file.with_suffix(".part")
        temporary.write_text(json.dumps(places))
        temporary.replace(file)

    signal.signal(signal.SIGPROF, note)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    return cli.main(["--stdio"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
