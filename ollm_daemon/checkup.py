"""Trying a provider out, as `ollm doctor` does: who is there, is the key right, does a model answer.

Every problem is one sentence with the one thing to do about it. Nothing is changed on the server, but a
model that is not loaded may be.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import anyio

from ollm_daemon.domain import (
    ChatRequest,
    Finished,
    GenerationOptions,
    Identity,
    Message,
    ModelInfo,
    ProviderEvent,
    TextDelta,
    ThinkingDelta,
)
from ollm_daemon.errors import ErrorKind, OllmError, ProviderError, RefusedError
from ollm_daemon.generation import choose_model
from ollm_daemon.providers.base import ProviderAdapter

TRIAL_SECONDS = 120.0
"""For the few words of a model that may have to be loaded first."""
SMALL_WINDOW = 8192
"""Tokens below which editors soon run out of room."""
SLOW_CANCEL_SECONDS = 2.0
_FEW_WORDS = GenerationOptions(temperature=0, max_tokens=24)
_MANY_WORDS = GenerationOptions(temperature=0, max_tokens=400)
_ONE_WORD = GenerationOptions(temperature=0, max_tokens=1)
_KEY_KINDS = (ErrorKind.AUTH, ErrorKind.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a provider from working well, and the one thing to do about it."""

    message: str
    hint: str = ""
    kind: ErrorKind | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A few words of a model. `cancelled_ms`: from a cancel in mid-answer to the next answer's first word."""

    model: str
    first_token_ms: float
    tokens_per_second: float | None
    cancelled_ms: float | None


@dataclass(frozen=True, slots=True)
class Checkup:
    """How a provider does."""

    state: Literal["ready", "loading", "locked", "unreachable", "broken"]
    identity: Identity
    key: Literal["none", "accepted", "missing", "refused"]
    models: tuple[ModelInfo, ...] = ()
    trial: Trial | None = None
    problems: tuple[Problem, ...] = ()


async def check_provider(adapter: ProviderAdapter, model: str | None, *, generate: bool) -> Checkup:
    """Try `adapter` out.

    Args:
        model: The model to try; one is chosen when there is none.
        generate: Let it write a few words, and cancel it once.
    """
    has_key = adapter.sends_key
    untried: Literal["accepted", "none"] = "accepted" if has_key else "none"
    try:
        identity = await adapter.identify()
    except ProviderError as error:
        return Checkup("unreachable", Identity(None), "none", problems=(_problem(error),))
    problems = [Problem(notice) for notice in adapter.notices]
    if identity.state == "loading":
        title = adapter.backend.title_first
        problems.append(Problem(f"{title} is still loading its model.", "Wait for it, then look again."))
        return Checkup("loading", identity, "none", problems=tuple(problems))
    try:
        models = tuple(await adapter.list_models())
    except ProviderError as error:
        problems.append(_problem(error))
        if error.kind not in _KEY_KINDS:
            return Checkup("broken", identity, untried, problems=tuple(problems))
        key: Literal["missing", "refused"] = "refused" if has_key else "missing"
        return Checkup("locked", identity, key, problems=tuple(problems))
    trial = None
    if generate or not models:
        try:
            with anyio.fail_after(TRIAL_SECONDS):
                chosen = model or (await choose_model(adapter))[0]
                trial = await _try_model(adapter, chosen) if generate else None
        except TimeoutError:
            problems.append(_too_slow())
        except OllmError as error:
            problems.append(_problem(error, model or ""))
    problems += _about_windows(adapter, models)
    problems += _about_cancel(adapter, trial)
    failed = any(problem.kind is not None for problem in problems)
    return Checkup("broken" if failed else "ready", identity, untried, models, trial, tuple(problems))


async def _try_model(adapter: ProviderAdapter, model: str) -> Trial:
    started = time.monotonic()
    first, finished, ended = await _write(adapter, model, _FEW_WORDS)
    usage, timings = finished.usage, finished.timings
    seconds = timings.generation_ms / 1e3 if timings and timings.generation_ms else ended - first
    tokens = usage.completion_tokens if usage else 0
    cancelled = time.monotonic()
    await _begin_and_leave(adapter, model)
    again, _, _ = await _write(adapter, model, _ONE_WORD)
    return Trial(
        model,
        (first - started) * 1e3,
        tokens / seconds if tokens > 1 and seconds > 0 else None,
        (again - cancelled) * 1e3,
    )


async def _write(
    adapter: ProviderAdapter, model: str, options: GenerationOptions
) -> tuple[float, Finished, float]:
    """When the first word came, how it ended, and when."""
    first: float | None = None
    finished = Finished("unknown")
    request = ChatRequest(model, (Message("user", "Say hello in one sentence."),), options)
    async with adapter.chat_stream(request) as batches:
        async for batch in batches:
            first = first or (time.monotonic() if _has_text(batch) else None)
            finished = next((event for event in batch if isinstance(event, Finished)), finished)
    ended = time.monotonic()
    if first is None:
        raise RefusedError(
            f"{model} answered with nothing.",
            kind=ErrorKind.BACKEND,
            hint="Look into the server's log; the model may lack a chat template.",
        )
    return first, finished, ended


async def _begin_and_leave(adapter: ProviderAdapter, model: str) -> None:
    request = ChatRequest(model, (Message("user", "Count from one to a thousand."),), _MANY_WORDS)
    async with adapter.chat_stream(request) as batches:
        async for batch in batches:
            if _has_text(batch):
                return


def _has_text(batch: list[ProviderEvent]) -> bool:
    return any(isinstance(event, TextDelta | ThinkingDelta) for event in batch)


def _problem(error: OllmError, model: str = "") -> Problem:
    return Problem(str(error), error.hint.replace("{model}", model or "MODEL"), error.kind)


def _too_slow() -> Problem:
    return Problem(
        f"No model wrote a few words within {TRIAL_SECONDS:.0f} s.",
        "Choose a smaller model, or see the server's log.",
        ErrorKind.TIMEOUT_TOTAL,
    )


def _about_windows(adapter: ProviderAdapter, models: tuple[ModelInfo, ...]) -> list[Problem]:
    """Models that were given much less room than they could use."""
    return [
        Problem(
            f"{model.id} has a window of {model.context_length} tokens and was trained for "
            f"{model.max_context_length}.",
            adapter.backend.widen.format(provider=adapter.name),
        )
        for model in models
        if model.context_length
        and model.context_length < SMALL_WINDOW
        and (model.max_context_length or 0) >= 2 * model.context_length
    ]


def _about_cancel(adapter: ProviderAdapter, trial: Trial | None) -> list[Problem]:
    """Whether the answer after a cancel had to wait for the cancelled one."""
    waited = (trial.cancelled_ms or 0) - trial.first_token_ms * 3 if trial else 0
    if waited < SLOW_CANCEL_SECONDS * 1e3:
        return []
    return [
        Problem(
            f"{adapter.backend.title_first} went on after a cancel: the next answer began "
            f"{waited / 1e3:.1f} s later than usual.",
            "Give it more parallel slots, or a newer version.",
        )
    ]
