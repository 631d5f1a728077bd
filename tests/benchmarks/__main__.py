"""`python -m tests.benchmarks`: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import machine
from tests.benchmarks.candidates import Stage
from tests.benchmarks.measurements import MEASUREMENTS
from tests.benchmarks.processes import BenchmarkError, Upstream
from tests.benchmarks.report import (
    Outcome,
    all_figures,
    check_lines,
    has_place,
    markdown,
    missed,
    write_json,
    write_markdown,
)

EXIT_MISSED = 1
EXIT_FAILED = 2


def main(arguments: list[str]) -> int:
    """Measure and report; gives 1 when `--check` finds a limit missed, 2 when a measurement fails."""
    flags = _parser().parse_args(arguments)
    if sys.platform != "linux":
        print("The benchmarks read /proc and process clocks: they run on Linux only.", file=sys.stderr)
        return EXIT_FAILED
    if flags.markdown and not has_place(flags.markdown):
        print(f"{flags.markdown} has no markers to write between.", file=sys.stderr)
        return EXIT_FAILED
    facts = machine.describe()
    try:
        outcomes = _measure(flags)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return EXIT_FAILED
    facts["Load after"] = machine.load()
    report = markdown(facts, outcomes)
    if flags.json:
        write_json(flags.json, facts, outcomes)
    if flags.markdown:
        write_markdown(flags.markdown, report)
    figures = all_figures(outcomes)
    print("\n".join(check_lines(figures)) if flags.check else report)
    return EXIT_MISSED if flags.check and missed(figures) else 0


def _measure(flags: argparse.Namespace) -> dict[str, Outcome]:
    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="ollm-bench-") as folder, Upstream() as upstream:
        stage = Stage(upstream, Path(folder), quick=flags.quick, with_peers=flags.peers)
        for name in flags.names or MEASUREMENTS:
            began = time.monotonic()
            outcomes[name] = MEASUREMENTS[name](stage)
            print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return outcomes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure the daemon.")
    parser.add_argument("names", nargs="*", metavar="NAME", type=_known, help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds and tokens: under a minute")
    parser.add_argument(
        "--check", action="store_true", help="print limits only; exit code 1 when one is missed"
    )
    parser.add_argument("--peers", action="store_true", help="beside other projects, installed on demand")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables between its markers")
    return parser


def _known(name: str) -> str:
    if name not in MEASUREMENTS:
        raise argparse.ArgumentTypeError(f"there is no measurement {name}")
    return name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
