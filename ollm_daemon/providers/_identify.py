"""Who is answering at an address: GETs without a key, held against the signs of all backends.

Many servers imitate another one (LocalAI and KoboldCpp answer like Ollama, Aphrodite and TabbyAPI like
KoboldCpp, LM Studio says 200 to everything), so signs are looked for in a fixed order and a status code
alone proves nothing. A server that wants a key or is still loading gives itself away too.
"""

from __future__ import annotations

from typing import Any, Literal

import anyio

from ollm_daemon.domain import Identity, Timeouts
from ollm_daemon.errors import (
    BrokenAnswerError,
    ErrorKind,
    ProviderError,
    TimeoutPassedError,
    UnreachableError,
)
from ollm_daemon.providers._failures import classify, read_failure
from ollm_daemon.providers._http import Seen, UpstreamClient
from ollm_daemon.providers._json import decode_json, value_at
from ollm_daemon.providers.backends import BACKENDS, SIGNS
from ollm_daemon.providers.facts import ANYWHERE, Sign

LOOK_SECONDS = 1.2
"""For one address, all questions together."""
MODELS_PATH = "/v1/models"


async def identify(client: UpstreamClient, seconds: float = LOOK_SECONDS) -> Identity:
    """Who answers at the client's address. No key is sent.

    Raises:
        TimeoutPassedError: The server was too slow to be known.
        ProviderError: No connection.
    """
    look = _Look(client, seconds)
    name: str | None = None
    version: str | None = None
    with anyio.move_on_after(seconds) as limit:
        name = await look.name()
        await look.ask(MODELS_PATH)  # tells whether it wants a key
        version = await look.version(name) if name else None
    if name is None and limit.cancelled_caught:
        raise TimeoutPassedError(
            f"The server at {client.base_url} was too slow to say what it is.", kind=ErrorKind.TIMEOUT_IDLE
        )
    return Identity(name, version, look.state)


class _Look:
    """Answers of one server, each asked for once."""

    def __init__(self, client: UpstreamClient, seconds: float) -> None:
        self._client = client
        self._limits = Timeouts(
            connect=seconds, first_token=seconds, idle=seconds, stall=seconds, total=seconds
        )
        self._seen: dict[str, tuple[Seen, Any] | None] = {}
        self.state: Literal["ready", "loading", "locked"] = "ready"

    async def name(self) -> str | None:
        """Whose sign shows first."""
        for sign, name in SIGNS:
            if await self._shows(sign):
                return name
        return None

    async def _shows(self, sign: Sign) -> bool:
        """Whether a sign is there."""
        if sign.path == ANYWHERE:
            return any(_holds(sign, *answer) for answer in self._seen.values() if answer)
        answer = await self.ask(sign.path)
        return answer is not None and _holds(sign, *answer)

    async def version(self, name: str) -> str | None:
        """The version, where the backend tells it."""
        where = BACKENDS[name].version
        answer = await self.ask(where.path) if where and self.state != "loading" else None
        version = value_at(answer[1], where.keys) if where and answer else None
        return version if isinstance(version, str) and version else None

    async def ask(self, path: str) -> tuple[Seen, Any] | None:
        """What it answers to a GET; `None` when it does not.

        Raises:
            UnreachableError: It has not answered anything yet.
        """
        if path not in self._seen:
            self._seen[path] = None
            try:
                seen = await self._client.look(path, self._limits)
            except UnreachableError:
                if not any(self._seen.values()):
                    raise
                return None
            except ProviderError:
                return None
            self._seen[path] = seen, _document(seen)
            self._note_state(seen, path)
        return self._seen[path]

    def _note_state(self, seen: Seen, path: str) -> None:
        if seen.status == 503 and classify(503, read_failure(seen.body))[1]:
            self.state = "loading"
        elif seen.status in (401, 403) and path == MODELS_PATH:
            self.state = "locked"


def _document(seen: Seen) -> Any:
    try:
        return decode_json(seen.body)
    except BrokenAnswerError:
        return None


def _holds(sign: Sign, seen: Seen, document: Any) -> bool:
    """Whether an answer has everything that a sign names."""
    if sign.status is not None and seen.status != sign.status:
        return False
    if sign.header is not None:
        return seen.headers.get(sign.header[0], "").startswith(sign.header[1])
    if sign.text is not None:
        return seen.body.strip() == sign.text.encode()
    found = value_at(document, sign.keys)
    if found is None:
        return False
    if sign.is_object and not isinstance(found, dict):
        return False
    if sign.equals is not None and (found != sign.equals or type(found) is not type(sign.equals)):
        return False
    if sign.begins is not None and not (isinstance(found, str) and found.startswith(sign.begins)):
        return False
    if sign.holds is not None and not (isinstance(found, dict) and sign.holds in found):
        return False
    return not (sign.lacks is not None and isinstance(found, dict) and sign.lacks in found)
