"""What a workspace may decide by itself, and what the user must approve first.

From a workspace a model, options, aliases and the name of a provider count at once. Whatever sends
prompts somewhere (a provider's address, headers, proxy, certificate authority, model file) counts
only after the user approved exactly that content; a key never comes from a workspace. An approval is
kept in the user's state folder, bound to the workspace's real path and to a hash of the content, so a
change of one character asks again and nothing a repository holds can grant one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ollm_daemon.config.layers import Layer
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest
from ollm_daemon.config.sources import read_own_file

FORBIDDEN = frozenset({"apiKey", "apiKeyFile", "clientCert", "clientKey", "selectable"})
"""Fields of a provider that a workspace can never set. Nor can it say who else gets to see a prompt."""

MAX_SHOWN = 200
"""Characters of a value in a question."""


OWN_KEYS = ("fallbacks", "completion.provider", "completion.model", "completion.extraBody")
"""Keys that decide who sees what the user writes: the user's own."""


class Approvals:
    """The user's approvals, in one private file. Without a state folder nothing can be approved."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "approvals.json" if folder else None

    def holds(self, request: RoutingRequest) -> bool:
        """Whether the user approved exactly this content for this workspace."""
        return request.digest in self._load().get(request.workspace, {})

    def add(self, request: RoutingRequest) -> None:
        """Remember an approval.

        Raises:
            OSError: The state folder cannot be written.
        """
        if self._path is None:
            raise OSError("there is no state folder to remember the approval in")
        approvals = self._load()
        approvals.setdefault(request.workspace, {})[request.digest] = request.question
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix="approvals.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(approvals, file, indent=1)
            Path(temporary).replace(self._path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _load(self) -> dict[str, dict[str, str]]:
        text = read_own_file(self._path) if self._path else None
        try:
            value = json.loads(text or "{}")
        except (ValueError, RecursionError):
            return {}
        if not isinstance(value, dict):
            return {}
        return {workspace: known for workspace, known in value.items() if isinstance(known, dict)}


def split_layer(layer: Layer) -> tuple[dict[str, Any], dict[str, Any], list[ConfigProblem]]:
    """What of an untrusted layer counts at once, what needs approval, and what it may never say."""
    free: dict[str, Any] = {}
    routing: dict[str, Any] = {}
    problems = []
    for key, value in layer.values.items():
        if key == "options.extraBody":
            # Servers take routes in bodies too (LiteLLM's `api_base`, vLLM's `kv_transfer_params`).
            routing[key] = value
        elif not key.startswith(("providers.", *OWN_KEYS)):
            free[key] = value
        elif _field(key) in FORBIDDEN or key.startswith(OWN_KEYS):
            problems.append(
                ConfigProblem(
                    "warning",
                    f"a workspace cannot set `{key}`; it is ignored.",
                    "Put it into your own ~/.ollm/config.yaml.",
                    key,
                    layer.source or layer.name,
                    layer.lines.get(key),
                )
            )
        else:
            routing[key] = value
    if all(value is None for value in routing.values()):
        routing = {}
    return free, routing, problems


def routing_request(workspace: str, source: str, routing: Mapping[str, Any]) -> RoutingRequest:
    """The question whether prompts may go where `routing` sends them."""
    plain = {
        key: value.get_secret_value() if isinstance(value, SecretStr) else value
        for key, value in sorted(routing.items())
    }
    digest = hashlib.sha256(json.dumps([workspace, plain], sort_keys=True).encode()).hexdigest()
    targets = [
        f"{_address(value)} ({key.split('.')[1]})" for key, value in plain.items() if _field(key) == "baseUrl"
    ]
    proxies = [_address(value) for key, value in plain.items() if _field(key) == "proxy" and value]
    named = ("baseUrl", "kind", "backend", "proxy") if proxies else ("baseUrl", "kind", "backend")
    others = [
        f"{key.removeprefix('providers.')} to {_shown(value)}"
        for key, value in plain.items()
        if value is not None and _field(key) not in named
    ]
    question = "This workspace wants to "
    question += f"send prompts to {', '.join(targets)}" if targets else "change where prompts are sent"
    question += f" through the proxy {', '.join(proxies)}" if proxies else ""
    question += f" and sets {', '.join(others)}" if others else ""
    return RoutingRequest(workspace, source, f"{question}.", plain, digest)


def _shown(value: Any) -> str:
    """A value as it may stand in a question: quoted, all on one line, and not endless."""
    text = json.dumps(value)
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[:MAX_SHOWN]}… ({len(text)} characters; `ollm trust` shows all)"


def _address(url: str) -> str:
    """An address in its plain spelling; quoted if something in it could look like more of the question."""
    return url if url.isascii() and url.isprintable() and len(url) <= MAX_SHOWN else _shown(url)


def _field(key: str) -> str:
    """The field of a provider that a key sets; a header's name may look like one and is none."""
    parts = key.split(".")
    return parts[2] if len(parts) == 3 and parts[0] == "providers" else ""
