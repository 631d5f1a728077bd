"""LSP's own requests about text at the cursor, and `ollm/infill`: between the wire and the engine.

Params of LSP's requests are read leniently: what a client leaves out has its obvious meaning, and a
document that is not open has nothing to offer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ollm_daemon import generation
from ollm_daemon.completion.asking import Question, in_its_form
from ollm_daemon.completion.context import is_excluded
from ollm_daemon.completion.writer import Source
from ollm_daemon.domain import ContextFile, InfillRequest
from ollm_daemon.errors import UnsupportedError
from ollm_daemon.protocol import completion
from ollm_daemon.server import convert
from ollm_daemon.server.context import Context, Document, candidates, one_model
from ollm_daemon.server.deltas import delta_sink
from ollm_daemon.server.endpoint import INVALID_PARAMS, RpcError
from ollm_daemon.server.greeting import ACCEPTED, look_up
from ollm_daemon.server.positions import offset_at, position_at, units

AUTOMATIC = 2
"""InlineCompletionTriggerKind.Automatic of LSP 3.18."""
CANDIDATES = 3
"""Different texts that are offered to a user who asks."""
MAX_CHARACTERS = 5_000_000
"""Of a document that anything is offered in."""
_KIND_TEXT = 1


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a client wants text."""

    document: Document
    offset: int
    encoding: str


async def offer_inline(context: Context, params: Any) -> Any:
    """`textDocument/inlineCompletion` of LSP 3.18."""
    spot = await _find_spot(context, params)
    if spot is None:
        return {"items": []}
    text, offset = spot.document.text, spot.offset
    chosen = _chosen_entry(spot, params)
    start, begun = chosen or (offset, "")
    automatic = look_up(params, "context", "triggerKind") in (AUTOMATIC, None)
    question = Question(
        spot.document.uri,
        text[:start] + begun,
        text[offset:],
        spot.document.language,
        automatic=automatic,
        candidates=1 if automatic else CANDIDATES,
    )
    offers = await _ask(context, question)
    place = {
        "start": position_at(text, start, spot.encoding),
        "end": position_at(text, offset, spot.encoding),
    }
    return {
        "items": [
            {
                "insertText": begun + offer,
                "range": place,
                "command": _when_accepted(offer),
            }
            for offer in offers
        ]
    }


async def offer_in_list(context: Context, params: Any) -> Any:
    """`textDocument/completion`, for editors that have no more: one entry that holds the whole offer."""
    spot = await _find_spot(context, params)
    settings = (await context.configuration.current()).settings.completion
    if spot is None or not settings.popup:
        return {"isIncomplete": False, "items": []}
    text, offset = spot.document.text, spot.offset
    language = spot.document.language
    question = Question(spot.document.uri, text[:offset], text[offset:], language, listed=True)
    offers = await _ask(context, question)
    word = _word_before(text, offset)
    end = position_at(text, offset, spot.encoding)
    start = {**end, "character": end["character"] - units(word, spot.encoding)}
    return {
        "isIncomplete": True,
        "items": [
            {
                "label": (word + offer).strip().partition("\n")[0][:80] or offer,
                "kind": _KIND_TEXT,
                "filterText": word + offer,
                "sortText": "\x7f",
                "textEdit": {"range": {"start": start, "end": end}, "newText": word + offer},
                "documentation": word + offer,
                "command": _when_accepted(offer),
            }
            for offer in offers
        ],
    }


async def run_command(context: Context, params: Any) -> Any:
    """`workspace/executeCommand`: the editor tells that an offer was accepted."""
    if look_up(params, "command") != ACCEPTED:
        raise RpcError(INVALID_PARAMS, f"Invalid params: the only command is `{ACCEPTED}`.")
    context.completion.statistics.accepted += 1


async def answer_infill(context: Context, params: completion.InfillParams) -> completion.InfillResult:
    """`ollm/infill`."""
    resolved = await context.configuration.current()
    settings = resolved.settings
    own = settings.completion
    found, _ = await candidates(
        context, resolved, params.provider or own.provider, params.model or own.model or settings.model
    )
    adapter = found[0].adapter
    model = found[0].model or (await generation.choose_model(adapter))[0]
    request = InfillRequest(
        model,
        params.prefix,
        params.suffix,
        tuple(ContextFile(file.path, file.text) for file in params.context or ()),
        convert.to_options(params.options, settings.options),
        session=context.session,
    )
    shape = partial(in_its_form, request, adapter, family=own.family, path=params.path or "")
    shaped = await shape()
    with delta_sink(context.outbox, params.stream_token, params.min_interval_ms or 0) as sink:
        try:
            result = await generation.run_infill(adapter, shaped, sink)
        except UnsupportedError:
            if shaped.prompt is not None:
                raise
            # Only now the server said that it does not take prefix and suffix apart.
            result = await generation.run_infill(adapter, await shape(), sink)
    return convert.from_infill(result)


async def check_privacy(
    context: Context, params: completion.PrivacyCheckParams
) -> completion.PrivacyCheckResult:
    """`ollm/privacy/check`."""
    exclude = (await context.configuration.current()).settings.completion.exclude
    return completion.PrivacyCheckResult(excluded=[uri for uri in params.uris if is_excluded(uri, exclude)])


async def _ask(context: Context, question: Question) -> tuple[str, ...]:
    """Offers of the engine; what goes wrong is told as a change of state, not as an error of each request."""
    resolved = await context.configuration.current()
    if not resolved.settings.completion.is_on(question.language):
        return ()
    return await context.completion.complete(question, partial(_source, context))


async def _source(context: Context) -> Source:
    """Who writes, as the settings are now."""
    resolved = await context.configuration.current()
    own = resolved.settings.completion
    model = own.model or (resolved.settings.model if own.provider is None else None)
    adapter, name = await one_model(context, resolved, own.provider, model)
    return Source(adapter, name, own, resolved.registry)


async def _find_spot(context: Context, params: Any) -> _Spot | None:
    uri = look_up(params, "textDocument", "uri")
    document = await context.document(uri) if isinstance(uri, str) else None
    if document is None or len(document.text) > MAX_CHARACTERS or "\0" in document.text[:4000]:
        return None
    offset = offset_at(document.text, look_up(params, "position"), context.encoding())
    return _Spot(document, offset, context.encoding())


def _chosen_entry(spot: _Spot, params: Any) -> tuple[int, str] | None:
    """The entry that is chosen in the editor's own list: what is offered goes on from it."""
    chosen = look_up(params, "context", "selectedCompletionInfo")
    text = look_up(chosen, "text")
    if not isinstance(text, str):
        return None
    start = offset_at(spot.document.text, look_up(chosen, "range", "start"), spot.encoding)
    return (start, text) if start <= spot.offset else None


def _when_accepted(offer: str) -> dict[str, Any]:
    """What the editor runs when the user accepts an offer."""
    return {"title": "Accepted", "command": ACCEPTED, "arguments": [len(offer)]}


def _word_before(text: str, offset: int) -> str:
    start = offset
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    return text[start:offset]


LSP_HANDLERS: Mapping[str, Callable[[Context, Any], Awaitable[Any]]] = {
    "textDocument/inlineCompletion": offer_inline,
    "textDocument/completion": offer_in_list,
    "workspace/executeCommand": run_command,
}
"""LSP's requests that take time; params and results are plain data."""
