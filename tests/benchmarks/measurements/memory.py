"""What a daemon holds in memory: with one and a hundred streams, and with one, ten and all its clients."""

from __future__ import annotations

import contextlib

from tests.benchmarks.candidates import SPECS, DaemonProcess, Stage
from tests.benchmarks.report import Outcome, Table, number
from tests.benchmarks.rounds import Sample, take_rounds
from tests.benchmarks.scenario import Scenario

STREAMS = (1, 100)
CONNECTIONS = (1, 10, 16)
"""A daemon lets 16 clients in at once; a seventeenth is closed."""
CAME_AND_WENT = 50
STREAMS_PER_CLIENT = 64
TOKENS = 10


def memory(stage: Stage) -> Outcome:
    """Resident memory, while streams are open and while clients are connected."""

    def measure(name: str, _: None) -> Sample:
        sample: Sample = {}
        for streams in STREAMS:
            with stage.daemons(name) as daemons:
                sample[f"{streams} streams"] = _with_streams(stage, daemons[name], streams)
        with stage.daemons(name) as daemons:
            daemon = daemons[name]
            wires = [daemon.wire]
            for count in CONNECTIONS:
                while len(wires) < count:
                    wires.append(daemon.connect())
                sample[f"{count} clients"] = daemon.child.resident_mb
            for wire in wires[1:]:
                wire.leave()
            for _client in range(CAME_AND_WENT):
                daemon.connect().leave()
            sample["after"] = daemon.child.resident_mb
        return sample

    names = ("floor-tcp", "tcp")
    samples = take_rounds(dict.fromkeys(names), measure, stage.rounds(3, 1))
    quantities = [*(f"{n} streams" for n in STREAMS), *(f"{n} clients" for n in CONNECTIONS), "after"]
    table = Table(
        "Memory",
        f"Resident MB: while so many streams are open and have each brought {TOKENS} tokens, and while so "
        f"many clients are connected, of which a daemon takes {CONNECTIONS[-1]}; then after "
        f"{CAME_AND_WENT} more came and went.",
        (
            "",
            *(f"{n} stream{'s' * (n > 1)}" for n in STREAMS),
            *(f"{n} client{'s' * (n > 1)}" for n in CONNECTIONS),
            f"{CAME_AND_WENT} more, gone",
        ),
    )
    for name in names:
        values = [samples.median(name, quantity) for quantity in quantities]
        table.rows.append([SPECS[name].title, *map(number, values)])
    return Outcome([table], {}, {"memory": samples})


def _with_streams(stage: Stage, daemon: DaemonProcess, streams: int) -> float:
    """Memory while so many streams are open, each with its first tokens delivered."""
    scenario = Scenario("stall", TOKENS)
    with contextlib.ExitStack() as stack:
        wire = daemon.wire
        stage.upstream.forget()
        for token in range(streams):
            if token and token % STREAMS_PER_CLIENT == 0:
                wire = stack.enter_context(contextlib.closing(daemon.connect()))
            wire.chat(scenario.model, token)
            wire.first_delta()
        return daemon.child.resident_mb
