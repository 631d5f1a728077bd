"""From a question at a cursor to the request that a provider can answer: what goes along, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ollm_daemon.completion.context import path_of
from ollm_daemon.completion.families import FAMILIES, Family, build_prompt, find_family
from ollm_daemon.domain import (
    ChatRequest,
    CompletionSettings,
    ContextFile,
    GenerationOptions,
    InfillRequest,
    Message,
)
from ollm_daemon.errors import UnsupportedError
from ollm_daemon.providers.base import ProviderAdapter

CHARACTERS_PER_TOKEN = 3.2
"""Of code, until a server's own tokeniser says otherwise."""
LINE_TOKENS = 64
"""Most tokens of an offer of one line."""
SPARE_TOKENS = 64
"""Kept free of the window, for marks and a tokeniser that counts otherwise."""
CURSOR_MARK = "<cursor/>"
CHAT_PROMPT = (
    f"You complete code in an editor. The last file holds {CURSOR_MARK} where the user types. "
    "Answer with the text that belongs there and nothing else: no explanation, no code fence, nothing of "
    "what stands before or behind it."
)

AnyRequest = InfillRequest | ChatRequest
ChooseContext = Callable[[str, int], tuple[ContextFile, ...]]
"""Gives text of other files that helps near some text, of at most so many characters."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks for.

    Attributes:
        automatic: Nobody asked; the user typed.
        candidates: How many different texts are wanted.
        listed: It is for the list of completions; an editor asks for that beside the other.
    """

    uri: str
    prefix: str
    suffix: str
    language: str
    automatic: bool = True
    candidates: int = 1
    listed: bool = False


async def build_request(
    question: Question,
    adapter: ProviderAdapter,
    model: str,
    settings: CompletionSettings,
    *,
    block: bool,
    choose: ChooseContext,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> AnyRequest:
    """Prefix, suffix and other files within the budget, as the server takes them.

    Raises:
        UnsupportedError: Neither the server nor anybody we know can fill in with this model.
    """
    max_tokens = settings.max_tokens if block else min(settings.max_tokens, LINE_TOKENS)
    room = await room_for(adapter, model, settings, max_tokens, characters_per_token)
    prefix = from_line(question.prefix, room // 2)
    suffix = to_line(question.suffix, room // 6)
    extra = choose(prefix[-2000:] + suffix[:500], room - len(prefix) - len(suffix))
    options = GenerationOptions(temperature=0.0, max_tokens=max_tokens, extra_body=settings.extra_body)
    request = InfillRequest(model, prefix, suffix, extra, options)
    path = path_of(question.uri).rpartition("/")[2]
    try:
        return await in_its_form(request, adapter, family=settings.family, path=path)
    except UnsupportedError:
        if not settings.chat:
            raise
        return as_chat(request, path)


async def room_for(
    adapter: ProviderAdapter,
    model: str,
    settings: CompletionSettings,
    max_tokens: int,
    characters_per_token: float,
) -> int:
    """Characters that may be sent, so that `max_tokens` can still be written; at least a third of them is for
    other files.
    """
    window = await adapter.window(model)
    tokens = settings.context_tokens
    if window is not None:
        tokens = max(0, min(tokens, window - max_tokens - SPARE_TOKENS))
    return int(tokens * characters_per_token)


async def in_its_form(
    request: InfillRequest, adapter: ProviderAdapter, *, family: str | None = None, path: str = ""
) -> InfillRequest:
    """The request as it is for a server that takes parts, else with a prompt in the model's own marks.

    Raises:
        UnsupportedError: Nobody knows the model's marks.
    """
    if await adapter.takes_parts(request.model):
        return request
    marks = family_of(family, request.model)
    prompt = build_prompt(marks, request.prefix, request.suffix, path=path, extra=request.extra)
    options = replace(request.options, stop=(*request.options.stop, *marks.stops))
    return replace(request, prompt=prompt, options=options)


def family_of(named: str | None, model: str) -> Family:
    """The family that the user named, or that the model's name tells.

    Raises:
        UnsupportedError: There is none.
    """
    family = next((one for one in FAMILIES if one.name == named), None) or find_family(named or model)
    if family is None:
        raise UnsupportedError(
            f"{model} is no code model that is known to fill in.",
            hint="Set `completion.model` to one, such as qwen2.5-coder, or `completion.family` to its kind; "
            "or let a chat model do with `completion.chat: true`.",
        )
    return family


def as_chat(request: InfillRequest, path: str) -> ChatRequest:
    """The request for a model that knows no marks, and only does what it is told."""
    files = [f"{file.path}:\n{file.text}" for file in request.extra]
    place = f"{path}:\n{request.prefix}{CURSOR_MARK}{request.suffix}"
    asked = Message("user", "\n\n".join([*files, place]))
    return ChatRequest(request.model, (Message("system", CHAT_PROMPT), asked), request.options)


def varied(request: AnyRequest, number: int) -> AnyRequest:
    """The same question, so that another answer comes."""
    return replace(request, options=replace(request.options, temperature=0.6, seed=number))


def from_line(text: str, size: int) -> str:
    """The end of a text, from the beginning of a line where there is one."""
    if len(text) <= size:
        return text
    start = text.find("\n", len(text) - size - 1)
    return text[start + 1 :] if 0 <= start < len(text) - 1 else text[len(text) - size :]


def to_line(text: str, size: int) -> str:
    """The beginning of a text, to the end of a line where there is one."""
    if len(text) <= size:
        return text
    end = text.rfind("\n", 0, size)
    return text[: end + 1] if end > 0 else text[:size]
