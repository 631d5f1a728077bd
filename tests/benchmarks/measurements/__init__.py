"""What is measured: each function takes the stage and gives tables, figures and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.benchmarks.candidates import Stage
from tests.benchmarks.measurements.cancel import cancel, stalled
from tests.benchmarks.measurements.completion import completion
from tests.benchmarks.measurements.connections import connections
from tests.benchmarks.measurements.memory import memory
from tests.benchmarks.measurements.reading import burst, first_token, paced
from tests.benchmarks.measurements.startup import startup
from tests.benchmarks.measurements.streams import streams
from tests.benchmarks.report import Outcome

MEASUREMENTS: Mapping[str, Callable[[Stage], Outcome]] = {
    "burst": burst,
    "paced": paced,
    "first-token": first_token,
    "cancel": cancel,
    "stalled": stalled,
    "startup": startup,
    "connections": connections,
    "streams": streams,
    "memory": memory,
    "completion": completion,
}
