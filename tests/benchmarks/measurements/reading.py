"""One stream at a time: CPU per token when tokens come in a burst or one by one, and the first token."""

from __future__ import annotations

import time

from tests.benchmarks.candidates import PEER_READERS, SPECS, DaemonProcess, Reader, Stage
from tests.benchmarks.report import Outcome, Table, number
from tests.benchmarks.rounds import Sample, take_rounds
from tests.benchmarks.scenario import CHUNK_BYTES, Scenario

DIRECT = "httpx-lines"
OURS = ("stdio", "tcp")
PEERS_WITH_LIMIT = ("openai", "any-llm", "litellm")


def burst(stage: Stage) -> Outcome:
    """CPU per token of a stream that comes as fast as it is read."""
    tokens = 10_000 if stage.quick else 20_000

    def measure(name: str, candidate: Reader | DaemonProcess) -> Sample:
        count = int(tokens * SPECS[name].share)
        cpu, began = candidate.child.cpu_seconds, time.monotonic()
        candidate.stream(Scenario("burst", count))
        took = time.monotonic() - began
        return {
            "cpu us": (candidate.child.cpu_seconds - cpu) / count * 1e6,
            "tokens/s": count / took,
            "peak MB": candidate.child.peak_mb,
        }

    names = ("socket", "asyncio", "httpx-bytes", DIRECT, *PEER_READERS)
    with stage.readers_and_daemons(*names, "floor-stdio", *OURS, "stdio-ndjson") as candidates:
        samples = take_rounds(candidates, measure, stage.rounds(9, 4))
    table = Table(
        "A burst of tokens",
        f"{tokens:,} chunks of {CHUNK_BYTES} bytes, each in an HTTP chunk of its own, as fast as they are "
        "read. CPU is the candidate's, per token; for the daemon that is reading, decoding and sending.",
        ("", "CPU µs", "/ socket", "/ httpx bytes", "/ direct httpx", "tokens/s", "peak MB"),
    )
    for name in samples.rounds:
        ratios = [samples.ratio(name, base, "cpu us") for base in ("socket", "httpx-bytes", DIRECT)]
        others = [samples.median(name, quantity) for quantity in ("tokens/s", "peak MB")]
        values = [samples.median(name, "cpu us"), *ratios, *others]
        table.rows.append([SPECS[name].title, *map(number, values)])
    stage.add_missing(table, PEER_READERS)
    figures = {
        f"burst / {base}, {name}": samples.ratio(name, base, "cpu us")
        for base in ("httpx-bytes", DIRECT)
        for name in OURS
    }
    for peer in PEERS_WITH_LIMIT:
        if peer in samples:
            figures[f"burst / {peer}"] = samples.ratio("stdio", peer, "cpu us")
    return Outcome([table], figures, {"burst": samples})


def paced(stage: Stage) -> Outcome:
    """CPU per token of a stream that is read token by token."""
    scenario = Scenario("paced", 250 if stage.quick else 500, gap_ms=1)

    def measure(name: str, candidate: Reader | DaemonProcess) -> Sample:
        cpu = candidate.child.cpu_seconds
        candidate.stream(scenario)
        return {"cpu us": (candidate.child.cpu_seconds - cpu) / scenario.tokens * 1e6}

    names = ("socket", "asyncio", DIRECT, *PEER_READERS, "floor-stdio", *OURS, "stdio-uvloop")
    with stage.readers_and_daemons(*names) as candidates:
        samples = take_rounds(candidates, measure, stage.rounds(7, 4))
    table = Table(
        "One token at a time",
        f"{scenario.tokens} tokens, one every millisecond, each read by itself: what an editor sees of a "
        "fast model. CPU is the candidate's, per token.",
        ("", "CPU µs", "/ socket", "/ direct httpx"),
    )
    for name in samples.rounds:
        ratios = [samples.ratio(name, base, "cpu us") for base in ("socket", DIRECT)]
        table.rows.append([SPECS[name].title, *map(number, [samples.median(name, "cpu us"), *ratios])])
    stage.add_missing(table, PEER_READERS)
    figures = {f"paced / {DIRECT}, {name}": samples.ratio(name, DIRECT, "cpu us") for name in OURS}
    return Outcome([table], figures, {"paced": samples})


def first_token(stage: Stage) -> Outcome:
    """Time from asking to the first token in hand, on connections that are kept."""
    scenario = Scenario("paced", 1)

    def measure(name: str, candidate: Reader | DaemonProcess) -> Sample:
        reading = candidate.stream(scenario)
        return {"ms": (reading.first - reading.started) / 1e6}

    names = ("socket", "asyncio", DIRECT, "floor-stdio", "floor-tcp", *OURS)
    with stage.readers_and_daemons(*names) as candidates:
        samples = take_rounds(candidates, measure, stage.rounds(101, 41))
    table = Table(
        "The first token",
        "From the call (for a daemon: from the client's request) to the first token in the program's "
        "hands, when the upstream answers at once and its connection is kept.",
        ("", "ms", "p95", "/ socket", "/ direct httpx"),
    )
    for name in samples.rounds:
        ratios = [samples.ratio(name, base, "ms") for base in ("socket", DIRECT)]
        values = [samples.median(name, "ms"), samples.percentile(name, "ms", 95), *ratios]
        table.rows.append([SPECS[name].title, *map(number, values)])
    figures = {f"first-token / {DIRECT}, {name}": samples.ratio(name, DIRECT, "ms") for name in OURS}
    return Outcome([table], figures, {"first-token": samples})
