"""Clients that come and go: what one more costs a daemon that listens, and what it leaves behind."""

from __future__ import annotations

from tests.benchmarks.candidates import SPECS, DaemonProcess, Stage
from tests.benchmarks.report import Outcome, Table, number
from tests.benchmarks.rounds import Sample, take_rounds

CLIENTS = 50


def connections(stage: Stage) -> Outcome:
    """CPU per client that connects, says hello and goodbye; memory grown after fifty."""

    def measure(name: str, _: None) -> Sample:
        with stage.daemons(name) as daemons:
            daemon = daemons[name]
            _come_and_go(daemon, 5)
            cpu, before = daemon.child.cpu_seconds, daemon.child.resident_mb
            _come_and_go(daemon, CLIENTS)
            return {
                "cpu ms": (daemon.child.cpu_seconds - cpu) / CLIENTS * 1e3,
                "grown MB": daemon.child.resident_mb - before,
            }

    names = ("floor-tcp", "tcp")
    samples = take_rounds(dict.fromkeys(names), measure, stage.rounds(5, 2))
    table = Table(
        "Clients that come and go",
        f"{CLIENTS} clients over TCP, one after another: connect, `initialize`, `shutdown`, `exit`, closed. "
        "Another client stays connected all the time.",
        ("", "CPU ms per client", f"MB grown after {CLIENTS}"),
    )
    for name in names:
        values = [samples.median(name, quantity) for quantity in ("cpu ms", "grown MB")]
        table.rows.append([SPECS[name].title, *map(number, values)])
    figures = {
        "connection cpu": samples.median("tcp", "cpu ms"),
        "connection growth": samples.median("tcp", "grown MB"),
    }
    return Outcome([table], figures, {"connections": samples})


def _come_and_go(daemon: DaemonProcess, clients: int) -> None:
    for _ in range(clients):
        daemon.connect().leave()
