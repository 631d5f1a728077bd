"""Text at a cursor: `ollm/infill` for plugins, and what daemon and client tell each other of offers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ollm_daemon.protocol.base import WireModel
from ollm_daemon.protocol.chat import FinishReason, GenerationOptions, Timings, Usage


class InfillContext(WireModel):
    """Text from another file that helps."""

    path: str
    text: str


class InfillParams(WireModel):
    """What stands before and behind the place where text is wanted."""

    prefix: str
    suffix: str = ""
    path: str | None = Field(None, description="Of the file, as the model may see it.")
    language: str | None = Field(None, description="Language identifier of LSP.")
    context: list[InfillContext] | None = Field(None, description="Other files, the most telling last.")
    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")
    model: str | None = Field(None, description="Model or alias; the setting when left out.")
    options: GenerationOptions | None = None
    stream_token: str | int | None = Field(
        None, description="Chosen by the client; deltas carry it. Without one there are no deltas."
    )
    min_interval_ms: int | None = Field(None, ge=0, le=1000, description="As in `ollm/chat`.")


class InfillResult(WireModel):
    """The model's text as it wrote it; nothing is cleaned."""

    text: str
    finish_reason: FinishReason
    usage: Usage | None = None
    timings: Timings
    provider: str = Field(description="The provider that answered.")
    model: str = Field(description="The model that answered, as the server names it.")


class CompletionDidChangeParams(WireModel):
    """Whether text can be offered. Told when it changes, so a server that is down is told of once."""

    state: Literal["ready", "unavailable"]
    message: str | None = Field(None, description="What is wrong, and what to do.")


class CompletionFeedbackParams(WireModel):
    """What became of an offer, for the daemon's own statistics; nothing of it leaves the machine."""

    event: Literal["shown", "accepted", "partiallyAccepted", "rejected"]
    characters: int | None = Field(None, ge=0, description="How much of it was accepted.")


class PrivacyCheckParams(WireModel):
    """Which files are meant."""

    uris: list[str] = Field(max_length=1000)


class PrivacyCheckResult(WireModel):
    """Those that `privacy.exclude` names, or that hold keys by their nature."""

    excluded: list[str]


class CompletionStatus(WireModel):
    """Counts since the daemon began, over all clients."""

    requests: int
    generations: int = Field(description="How many of them made a model write.")
    superseded: int = Field(description="Answered with nothing, as a newer one had come.")
    cache_hits: int
    joined: int = Field(description="Answered by a generation that was under way.")
    offered: int
    accepted: int
    rejected: int
    failures: int
    median_ms: float | None = Field(None, description="Latency that half of the last requests stayed under.")
    slow_ms: float | None = Field(None, description="Latency that 95 of 100 stayed under.")
