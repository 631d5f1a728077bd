"""From the start of the process to the answer to `initialize`, as an editor waits for it."""

from __future__ import annotations

from tests.benchmarks.candidates import HERE, OURS, PYTHON, Stage
from tests.benchmarks.peers import LANGUAGE_SERVERS, PEERS, NotAvailable, install, start_command
from tests.benchmarks.processes import BenchmarkError, Child, bare_environment
from tests.benchmarks.report import Outcome, Table, number
from tests.benchmarks.rounds import Sample, take_rounds
from tests.benchmarks.wire import Wire

FLOOR = "blocking loop, standard library"
DAEMON = "**ollm-daemon, stdio**"
WHO = {"name": "bench", "version": "1"}
OPTIONS = {"editorInfo": WHO, "editorPluginInfo": WHO}
"""What copilot-language-server refuses to start without; the others ignore it."""


def startup(stage: Stage) -> Outcome:
    """Process start to `initialize`, then to the first answer that needs all of the daemon."""

    def measure(name: str, command: tuple[str, ...]) -> Sample:
        is_peer = name in LANGUAGE_SERVERS
        environment = bare_environment(stage.folder / "startup", offline=is_peer)
        with Child(command, environment) as child:
            wire = Wire(child.stdout.fileno(), child.stdin.fileno())
            greeted = ready = wire.initialize(OPTIONS).arrived
            if not is_peer:
                ready = wire.answer(wire.request("ollm/status", {})).arrived
            cpu, resident = child.whole_family()
            return {
                "ms": (greeted - child.started) / 1e6,
                "ready ms": (ready - child.started) / 1e6,
                "cpu ms": cpu * 1e3,
                "MB": resident,
            }

    commands = {FLOOR: (*PYTHON, str(HERE / "floor_stub.py")), DAEMON: (*OURS, "--stdio")}
    for name in LANGUAGE_SERVERS if stage.with_peers else ():
        try:
            commands[name] = start_command(PEERS[name], install(PEERS[name]))
            measure(name, commands[name])
        except (NotAvailable, BenchmarkError) as error:
            stage.missing[name] = str(error)
            commands.pop(name, None)
    samples = take_rounds(commands, measure, stage.rounds(15, 6))
    table = Table(
        "Start",
        "From the start of the process to the answer to `initialize`, and to the first answer to "
        "`ollm/status`, sent right after. CPU and memory are those of the process and its children then; "
        "for other projects, at `initialize`.",
        ("", "`initialize` ms", "fastest", "/ floor", "first answer ms", "CPU ms", "MB"),
    )
    for name in samples.rounds:
        values = [
            samples.median(name, "ms"),
            min(samples.of(name, "ms")),
            samples.ratio(name, FLOOR, "ms"),
            samples.median(name, "ready ms"),
            samples.median(name, "cpu ms"),
            samples.median(name, "MB"),
        ]
        cells = [name, *map(number, values)]
        if name in LANGUAGE_SERVERS:
            cells[4] = ""
        table.rows.append(cells)
    stage.add_missing(table, LANGUAGE_SERVERS)
    figures = {
        "startup / floor": samples.ratio(DAEMON, FLOOR, "ms"),
        "idle memory": samples.median(DAEMON, "MB"),
    }
    return Outcome([table], figures, {"startup": samples})
