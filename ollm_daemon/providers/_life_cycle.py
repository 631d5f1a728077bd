"""Pull, delete, load and unload models, as each backend's record says. Progress as it comes.

Leaving an action early closes its request, which stops it where the server works only while somebody
waits (Ollama, TabbyAPI); a job that a server does in the background goes on there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote

import anyio

from ollm_daemon.domain import ModelProgress, Timeouts
from ollm_daemon.errors import (
    BrokenAnswerError,
    ErrorKind,
    RefusedError,
    UnsupportedError,
)
from ollm_daemon.providers._failures import Failure, clean_text, find_failure, refused_in_stream
from ollm_daemon.providers._http import UpstreamClient, UpstreamStream
from ollm_daemon.providers._json import decode_json, value_at
from ollm_daemon.providers._ndjson import NdjsonDecoder
from ollm_daemon.providers._sse import SseDecoder
from ollm_daemon.providers.base import count, text_of
from ollm_daemon.providers.facts import Backend, Job, Lookup, ModelAction, Step

POLL_SECONDS = 0.5
PATIENT = Timeouts(connect=5, first_token=900, idle=300, stall=300, total=86_400)
"""Limits of one action: a model may be large and a disk slow."""
_VERBS: Mapping[ModelAction, str] = {
    "pull": "download",
    "delete": "delete",
    "load": "load",
    "unload": "unload",
}


def step_of(backend: Backend, action: ModelAction, model: str) -> Step:
    """How the action is asked for.

    Raises:
        UnsupportedError: The backend has no way; the hint says what to do instead.
    """
    step = backend.actions.get(action)
    if step is None:
        raise UnsupportedError(
            f"{backend.title_first} cannot {_VERBS[action]} a model for others.",
            hint=backend.instead.get(action, "").replace("{model}", model),
        )
    return step


@asynccontextmanager
async def open_change(
    client: UpstreamClient,
    backend: Backend,
    action: ModelAction,
    model: str,
    extra: Mapping[str, Any] | None = None,
) -> AsyncIterator[AsyncIterator[ModelProgress]]:
    """Begin an action and lend its progress; it is done when the progress has ended.

    Args:
        extra: What the body holds besides.

    Raises:
        UnsupportedError: This backend, or this version of it, has no such action.
        ProviderError: The server refused or failed, in the midst of it too.
    """
    step = step_of(backend, action, model)
    with _explained(step, backend, action):
        name = await _find(client, step.instance, model) if step.instance else model
        if name is None:
            raise RefusedError(
                f"{model} is not loaded on {backend.title}.",
                kind=ErrorKind.NOT_FOUND,
                hint="See `ollm models ps`.",
            )
        body = {**step.body, **({step.key: name} if step.key else {}), **(extra or {})}
        path = step.path.replace("{model}", quote(name, safe=""))
        yield _run(client, step, path, body, model)


async def _run(
    client: UpstreamClient, step: Step, path: str, body: Mapping[str, Any], model: str
) -> AsyncIterator[ModelProgress]:
    if step.answer in ("lines", "events"):
        async with client.open_stream(step.method, path, body, PATIENT) as stream:
            records = _lines(stream) if step.answer == "lines" else _events(stream)
            async for progress in _read_records(records, is_marked=step.answer == "lines"):
                yield progress
    else:
        answer = await client.call(step.method, path, body, PATIENT)
        if step.job:
            async for progress in _follow(client, step.job, answer):
                yield progress
    if step.until:
        async for progress in _wait(client, *step.until, model):
            yield progress
    if step.proof:
        await client.call("POST", *step.proof, PATIENT)


@contextmanager
def _explained(step: Step, backend: Backend, action: ModelAction) -> Iterator[None]:
    """Tell a route that does not exist, and a key that is not enough, from other refusals."""
    try:
        yield
    except RefusedError as error:
        if error.kind is ErrorKind.PROTOCOL:
            raise UnsupportedError(
                f"This {backend.title} cannot {_VERBS[action]} a model for others.",
                hint=step.absent or backend.instead.get(action, "") or "A newer version may.",
            ) from error
        if step.needs_admin and error.kind in (ErrorKind.AUTH, ErrorKind.FORBIDDEN):
            error.hint = f"This takes {backend.title}'s administrator key. {error.hint}".strip()
        raise


async def _lines(stream: UpstreamStream) -> AsyncIterator[Any]:
    decoder = NdjsonDecoder()
    async for data in stream.read():
        for line in decoder.feed(data):
            stream.content_arrived()
            yield decode_json(line)
    for line in decoder.close():
        yield decode_json(line)


async def _events(stream: UpstreamStream) -> AsyncIterator[Any]:
    decoder = SseDecoder(extras=True)
    async for data in stream.read():
        for event in decoder.feed(data):
            stream.content_arrived()
            yield decode_json(event.data)
    for event in decoder.close():
        yield decode_json(event.data)


async def _read_records(records: AsyncIterator[Any], *, is_marked: bool) -> AsyncIterator[ModelProgress]:
    """Progress from Ollama's records, which end with `success`, or from TabbyAPI's.

    Ollama loads several files in turn; bytes are told over all of them that are known.
    """
    files: dict[str, tuple[int, int]] = {}
    status = ""
    async for record in records:
        failure = find_failure(record)
        if failure:
            raise refused_in_stream(failure)
        if not isinstance(record, dict):
            continue
        status = text_of(record.get("status")) or ""
        digest, total = text_of(record.get("digest")), count(record.get("total"))
        modules = count(record.get("modules"))
        if digest and total:
            files[digest] = (count(record.get("completed")) or 0, total)
            completed, whole = (sum(column) for column in zip(*files.values(), strict=True))
            yield ModelProgress(clean_text(status), completed, whole)
        elif modules:
            kind = text_of(record.get("model_type")) or "model"
            yield ModelProgress(
                clean_text(f"{status} {kind}: {count(record.get('module')) or 0} of {modules}")
            )
        else:
            yield ModelProgress(clean_text(status))
    if status != ("success" if is_marked else "finished"):
        raise BrokenAnswerError(
            "The server stopped telling its progress before it was done.",
            kind=ErrorKind.STREAM_TRUNCATED,
            hint="Do it again: what has been downloaded is kept.",
        )


async def _follow(client: UpstreamClient, job: Job, answer: Any) -> AsyncIterator[ModelProgress]:
    """Look at a job until it is over."""
    name = value_at(answer, (job.name,))
    if not isinstance(name, str | int):
        return
    path = job.path.replace("{job}", quote(str(name), safe=""))
    while True:
        document = await client.get_json(path)
        failed = value_at(document, (job.failed,))
        if failed in job.failures if job.failures else failed:
            said = text_of(value_at(document, ("message",))) or text_of(failed) or "no reason given"
            raise refused_in_stream(Failure(clean_text(said)))
        if value_at(document, (job.done[0],)) in job.done[1]:
            return
        yield _job_progress(job, document)
        await anyio.sleep(POLL_SECONDS)


def _job_progress(job: Job, document: Any) -> ModelProgress:
    status = (
        text_of(value_at(document, ("status",))) or text_of(value_at(document, ("message",))) or "working"
    )
    percent = value_at(document, (job.percent,)) if job.percent else None
    if isinstance(percent, int | float) and not isinstance(percent, bool):
        return ModelProgress(f"{clean_text(status)[:80]} ({percent:.0f} %)")
    completed, total = (
        count(value_at(document, (key,))) if key else None for key in (job.completed, job.total)
    )
    return ModelProgress(clean_text(status)[:80], completed, total)


async def _wait(
    client: UpstreamClient, lookup: Lookup, over: frozenset[str], model: str
) -> AsyncIterator[ModelProgress]:
    """Look at a model's state until it is one of `over`."""
    seen_loading = False
    while True:
        state = await _find(client, lookup, model)
        if state is None:
            raise RefusedError(f"The server no longer lists {model}.", kind=ErrorKind.NOT_FOUND)
        if state in over:
            return
        if state == "loading":
            seen_loading = True
        elif seen_loading:
            raise RefusedError(
                f"The server did not load {model}; it is {state} again.",
                kind=ErrorKind.BACKEND,
                hint="The server's log says why.",
            )
        yield ModelProgress(clean_text(state))
        await anyio.sleep(POLL_SECONDS)


async def _find(client: UpstreamClient, lookup: Lookup, model: str) -> str | None:
    """What stands beside a model's name in a list."""
    entries = value_at(await client.get_json(lookup.path), lookup.entries)
    for entry in entries if isinstance(entries, list) else ():
        if value_at(entry, (lookup.name,)) == model:
            return text_of(value_at(entry, lookup.value))
    return None
