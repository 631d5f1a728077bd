"""A hundred streams at once: how late each token is, what it costs, and the memory they take together."""

from __future__ import annotations

import contextlib
import json
import select

from tests.benchmarks.candidates import SPECS, DaemonProcess, Stage
from tests.benchmarks.processes import PATIENCE, BenchmarkError
from tests.benchmarks.report import Outcome, Table, number
from tests.benchmarks.rounds import Sample, percentile, take_rounds
from tests.benchmarks.scenario import Scenario
from tests.benchmarks.wire import Wire, is_delta

STREAMS = 100
CLIENTS = 4
"""The streams are spread over so many clients, as a daemon lets one client run 64 requests at once."""
GAP_MS = 100


def streams(stage: Stage) -> Outcome:
    """Delay of each token against the time at which the upstream wrote it."""
    tokens = 25 if stage.quick else 40

    def measure(name: str, daemon: DaemonProcess) -> Sample:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(contextlib.closing(daemon.connect())) for _ in range(CLIENTS)]
            cpu = daemon.child.cpu_seconds
            for stream in range(STREAMS):
                phase = GAP_MS * stream / STREAMS
                scenario = Scenario("stamped", tokens, GAP_MS, phase)
                wires[stream % CLIENTS].chat(scenario.model, stream)
            arrivals, resident = _drain(wires, daemon)
            cpu = daemon.child.cpu_seconds - cpu
        delays = _delays(arrivals)
        return {
            "p50 ms": percentile(delays, 50),
            "p99 ms": percentile(delays, 99),
            "cpu us": cpu / STREAMS / tokens * 1e6,
            "MB": resident,
        }

    names = ("floor-tcp", "tcp")
    with stage.daemons(*names) as daemons:
        samples = take_rounds(daemons, measure, stage.rounds(7, 3))
    table = Table(
        "A hundred streams",
        f"{STREAMS} streams of {1000 // GAP_MS} tokens a second over {CLIENTS} clients, spread evenly in "
        "time. The delay of a token is from the upstream writing it to the client having read it.",
        ("", "p50 ms", "p99 ms", "p99 ms, best round", "CPU µs per token", "MB"),
    )
    for name in names:
        values = [samples.median(name, quantity) for quantity in ("p50 ms", "p99 ms", "cpu us", "MB")]
        values.insert(2, min(samples.of(name, "p99 ms")))
        table.rows.append([SPECS[name].title, *map(number, values)])
    figures = {
        "streams delay": samples.median("tcp", "p99 ms"),
        "streams memory": samples.median("tcp", "MB"),
    }
    return Outcome([table], figures, {"streams": samples})


def _drain(wires: list[Wire], daemon: DaemonProcess) -> tuple[list[tuple[int, bytes]], float]:
    """Everything the clients receive until all streams have ended, and the memory when the first ends."""
    arrivals: list[tuple[int, bytes]] = []
    resident = 0.0
    running = STREAMS
    while running:
        readable = select.select(wires, [], [], PATIENCE)[0]
        if not readable:
            raise BenchmarkError(f"{running} streams did not end")
        for wire in readable:
            arrived = wire.fill()
            if not arrived:
                raise BenchmarkError("the daemon closed the connection in mid-stream")
            for body in wire.bodies():
                if is_delta(body):
                    arrivals.append((arrived, body))
                else:
                    resident = resident or daemon.child.resident_mb
                    running -= 1
    return arrivals, resident


def _delays(arrivals: list[tuple[int, bytes]]) -> list[float]:
    """Milliseconds each token took, once all streams were running."""
    tokens = []
    started: dict[int, int] = {}
    for arrived, body in arrivals:
        params = json.loads(body)["params"]
        started.setdefault(params["streamToken"], arrived)
        tokens += [(arrived, int(stamp)) for stamp in params["delta"]["text"].split()]
    if len(started) != STREAMS:
        raise BenchmarkError(f"only {len(started)} of {STREAMS} streams brought tokens")
    all_running = max(started.values())
    return [(arrived - stamp) / 1e6 for arrived, stamp in tokens if stamp > all_running]
