"""A client that changes its mind: how soon the upstream is closed, also when the client no longer reads."""

from __future__ import annotations

import contextlib
import time

from tests.benchmarks.candidates import SPECS, DaemonProcess, Stage
from tests.benchmarks.processes import BenchmarkError
from tests.benchmarks.report import Outcome, Table, number
from tests.benchmarks.rounds import Sample, take_rounds
from tests.benchmarks.scenario import Scenario

FLOORS = {"stdio": "floor-stdio", "tcp": "floor-tcp"}
CANCELLED = -32800


def cancel(stage: Stage) -> Outcome:
    """`$/cancelRequest` in the middle of a stream of 50 tokens a second."""
    scenario = Scenario("paced", 100_000, gap_ms=20)

    def measure(name: str, daemon: DaemonProcess) -> Sample:
        stage.upstream.forget()
        identifier = daemon.wire.chat(scenario.model)
        daemon.wire.first_delta()
        sent = time.monotonic_ns()
        daemon.wire.notify("$/cancelRequest", {"id": identifier})
        answered = _cancelled(daemon, identifier)
        closed = stage.upstream.wait_for("closed")
        return {"closed ms": (closed - sent) / 1e6, "answered ms": (answered - sent) / 1e6}

    with stage.daemons(*FLOORS.values(), *FLOORS) as daemons:
        samples = take_rounds(daemons, measure, stage.rounds(61, 25))
    table = Table(
        "Cancel",
        "From `$/cancelRequest` leaving the client to the upstream seeing its socket closed, and to the "
        "client having the answer, in the middle of a stream.",
        ("", "closed ms", "p95", "/ floor daemon", "answered ms"),
    )
    for name in samples.rounds:
        floor = FLOORS.get(name, name)
        values = [
            samples.median(name, "closed ms"),
            samples.percentile(name, "closed ms", 95),
            samples.ratio(name, floor, "closed ms"),
            samples.median(name, "answered ms"),
        ]
        table.rows.append([SPECS[name].title, *map(number, values)])
    figures = {
        f"cancel / floor, {name}": samples.ratio(name, floor, "closed ms") for name, floor in FLOORS.items()
    }
    return Outcome([table], figures, {"cancel": samples})


def stalled(stage: Stage) -> Outcome:
    """A client that asks for a long answer, does not read it, and then cancels."""
    scenario = Scenario("burst", 1_000_000)

    def measure(name: str, _: None) -> Sample:
        with stage.daemons(name) as daemons:
            daemon = daemons[name]
            daemon.stream(Scenario("burst", 10_000))
            before = daemon.child.resident_mb
            stage.upstream.forget()
            identifier = daemon.wire.chat(scenario.model)
            stage.upstream.wait_for("blocked", "sent")
            cpu = daemon.child.cpu_seconds
            grown = daemon.child.resident_mb - before
            sent = time.monotonic_ns()
            daemon.wire.notify("$/cancelRequest", {"id": identifier})
            closed = stage.upstream.wait_for("closed", "sent")
            busy = daemon.child.cpu_seconds - cpu
            # The answer is owed all the same.
            _cancelled(daemon, identifier)
        return {"grown MB": grown, "closed ms": (closed - sent) / 1e6, "cpu ms": busy * 1e3}

    samples = take_rounds(dict.fromkeys(FLOORS), measure, stage.rounds(5, 2))
    table = Table(
        "A client that stops reading",
        "The upstream sends as fast as it can and the client reads nothing, until everything in between is "
        "full; then the client cancels. Memory is what the daemon grew by, after an answer before.",
        ("", "grown MB", "closed ms", "worst ms"),
    )
    for name in samples.rounds:
        values = [
            samples.median(name, "grown MB"),
            samples.median(name, "closed ms"),
            max(samples.of(name, "closed ms")),
        ]
        table.rows.append([SPECS[name].title, *map(number, values)])
    figures = {}
    for name in FLOORS:
        figures[f"stalled cancel, {name}"] = samples.median(name, "closed ms")
        figures[f"stalled growth, {name}"] = samples.median(name, "grown MB")
    return Outcome([table], figures, {"stalled": samples})


def _cancelled(daemon: DaemonProcess, identifier: int) -> int:
    """When the answer to a cancelled request came."""
    answer = daemon.wire.answer(identifier)
    with contextlib.suppress(KeyError):
        if answer.message["error"]["code"] == CANCELLED:
            return answer.arrived
    raise BenchmarkError("a cancelled request was answered otherwise")
