"""What these tests share: settings for one upstream, one question, and the whole of its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio

from ollm_daemon.domain import (
    ChatRequest,
    Finished,
    Message,
    ProviderEvent,
    ProviderSettings,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from ollm_daemon.errors import ProviderError
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.urls import parse_base_url

PATIENCE = 10.0
QUESTION = ChatRequest("m", (Message("user", "Say something."),))


def settings_for(
    url: str, kind: str = "openai-compatible", backend: str = "generic", **rest: Any
) -> ProviderSettings:
    """Settings of a provider named `here`."""
    return ProviderSettings("here", kind, parse_base_url(url), backend, **rest)


@dataclass
class Answer:
    """All that one chat gave, joined."""

    events: list[ProviderEvent] = field(default_factory=list)
    error: ProviderError | None = None

    @property
    def text(self) -> str:
        """The answer proper."""
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def thinking(self) -> str:
        """The reasoning."""
        return "".join(event.text for event in self.events if isinstance(event, ThinkingDelta))

    @property
    def calls(self) -> list[tuple[str | None, str | None, str]]:
        """Id, name and arguments of each tool call, in the order of their indices."""
        calls: dict[int, tuple[str | None, str | None, str]] = {}
        for event in self.events:
            if isinstance(event, ToolCallDelta):
                id_, name, arguments = calls.get(event.index, (None, None, ""))
                calls[event.index] = (
                    event.id or id_,
                    event.name or name,
                    arguments + event.arguments_fragment,
                )
        return [calls[index] for index in sorted(calls)]

    @property
    def finished(self) -> Finished:
        """The one last event."""
        if self.error:
            raise self.error
        [finished] = (event for event in self.events if isinstance(event, Finished))
        assert self.events[-1] is finished
        return finished


async def ask(
    provider: ProviderAdapter,
    request: ChatRequest = QUESTION,
    *,
    at_first_text: Callable[[], object] = lambda: None,
    patience: float = PATIENCE,
) -> Answer:
    """Run one chat to its end, be that an error."""
    answer = Answer()
    with anyio.fail_after(patience):
        try:
            async with provider.chat_stream(request) as batches:
                async for events in batches:
                    if not answer.events:
                        at_first_text()
                    answer.events += events
        except ProviderError as error:
            answer.error = error
    return answer


def joined(events: Iterable[ProviderEvent]) -> list[ProviderEvent]:
    """The events with neighboring pieces of one kind of text made one."""
    result: list[ProviderEvent] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(last, TextDelta) and isinstance(event, TextDelta):
            result[-1] = TextDelta(last.text + event.text)
        elif isinstance(last, ThinkingDelta) and isinstance(event, ThinkingDelta):
            result[-1] = ThinkingDelta(last.text + event.text)
        else:
            result.append(event)
    return result
