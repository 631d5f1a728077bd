"""What an upstream is asked to do, written into the model's name so that any client can ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, cast

Mode = Literal["burst", "paced", "stamped", "stall"]

CHUNK_BYTES = 225
"""One token as OpenAI's dialect sends it: a server-sent event in an HTTP chunk of its own."""
TOKEN = " tok%05d"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One answer of the upstream.

    Attributes:
        mode: `burst` sends tokens as fast as the socket takes them; `paced` one token a write;
            `stamped` the same, the text being the time of the write in ns of CLOCK_MONOTONIC;
            `stall` sends its tokens at once and then nothing until the peer closes.
        tokens: How many.
        gap_ms: Time between two tokens.
        phase_ms: Tokens are due when the clock modulo the gap is this; spreads streams evenly.
    """

    mode: Mode
    tokens: int
    gap_ms: float = 0
    phase_ms: float | None = None

    @property
    def model(self) -> str:
        """The model to ask for."""
        phase = "" if self.phase_ms is None else f"-{self.phase_ms:g}"
        return f"{self.mode}-{self.tokens}-{self.gap_ms:g}{phase}"

    @classmethod
    def of_model(cls, model: str) -> Self:
        """Read what `model` wrote; some clients put their provider before it."""
        mode, tokens, gap, *phase = model.rpartition("/")[2].split("-")
        return cls(cast("Mode", mode), int(tokens), float(gap), float(phase[0]) if phase else None)

    @property
    def text_length(self) -> int:
        """Characters of the whole answer, where they are known beforehand."""
        return self.tokens * len(TOKEN % 0)
