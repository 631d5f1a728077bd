"""What must hold: one row per figure. A figure is a number that a measurement gives under this name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a figure may be.

    Attributes:
        title: What the figure is, in words.
        most: The limit, in `unit`.
        unit: What it is counted in; nothing for a ratio.
    """

    title: str
    most: float
    unit: str = ""


_TRANSPORTS = {"stdio": "stdio", "tcp": "TCP"}
_PER_TRANSPORT: Mapping[str, Limit] = {
    "burst / httpx-bytes": Limit("burst, CPU per token / httpx `aiter_bytes`", 0.4),
    "burst / httpx-lines": Limit("burst, CPU per token / direct httpx (lines and JSON)", 0.25),
    "paced / httpx-lines": Limit("one token per read, CPU per token / direct httpx", 0.5),
    "first-token / httpx-lines": Limit("time to first token / direct httpx on a kept connection", 1.0),
    "cancel / floor": Limit("cancel to upstream closed / floor daemon", 1.3),
    "stalled cancel": Limit("the same while the client does not read", 50, "ms"),
    "stalled growth": Limit("memory grown by a client that does not read", 10, "MB"),
}
_PEERS = {"openai": "openai-python", "any-llm": "any-llm", "litellm": "litellm"}

LIMITS: Mapping[str, Limit] = {
    **{
        f"{key}, {transport}": Limit(f"{limit.title}, {shown}", limit.most, limit.unit)
        for key, limit in _PER_TRANSPORT.items()
        for transport, shown in _TRANSPORTS.items()
    },
    "startup / floor": Limit("process start to `initialize` answer / blocking loop", 11),
    "idle memory": Limit("memory of an idle daemon", 55, "MB"),
    "connection cpu": Limit("CPU to let one more client in and out, TCP", 2, "ms"),
    "connection growth": Limit("memory grown by 50 clients that came and went", 2, "MB"),
    "streams delay": Limit("100 streams of 10 tokens/s, delay of a token, p99", 1, "ms"),
    "streams memory": Limit("memory with 100 streams", 85, "MB"),
    "completion added": Limit("text at the cursor, added to llama.cpp's own `/infill`, p50", 5, "ms"),
    "completion added, p95": Limit("the same, p95", 20, "ms"),
    "completion again": Limit("the same place again, p50", 2, "ms"),
    "completion typed": Limit("a letter of the offer typed, p50", 2, "ms"),
    "storm generations": Limit("30 requests in a second, generations (median)", 3),
    "storm unanswered": Limit("of them without exactly one answer", 0),
    "storm idle": Limit("from the last cancel to an idle server, worst", 100, "ms"),
    **{f"burst / {peer}": Limit(f"burst, CPU per token / {title}", 0.05) for peer, title in _PEERS.items()},
}
