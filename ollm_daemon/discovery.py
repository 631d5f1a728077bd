"""Which servers are up on this machine.

Looks at the known local ports with one connection each and one GET, in parallel and without any key.
Ports prove nothing, so a server is named by what it says of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from ollm_daemon.domain import ProviderSettings, Timeouts
from ollm_daemon.errors import OllmError
from ollm_daemon.providers._http import UpstreamClient
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.urls import BaseUrl, parse_base_url

KNOCK_SECONDS = 0.5
LOOK_SECONDS = 1.5
_OWNERS: Mapping[str, str] = {
    "llamacpp": "llamacpp",
    "library": "ollama",
    "koboldcpp": "koboldcpp",
    "organization_owner": "lmstudio",
    "vllm": "vllm",
    "aphrodite": "aphrodite",
    "tabbyAPI": "tabbyapi",
    "fastchat": "fastchat",
    "user": "textgen",
}
"""`owned_by` of the first entry of `/v1/models` → backend."""


@dataclass(frozen=True, slots=True)
class Found:
    """A server that is up. `backend` is `generic` when it does not say what it is."""

    base_url: BaseUrl
    backend: str

    @property
    def title(self) -> str:
        """Its name for people."""
        return BACKENDS[self.backend].title


async def is_listening(url: BaseUrl) -> bool:
    """Whether a connection can be made, within half a second."""
    try:
        with anyio.fail_after(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(url.host, url.port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def find_local_servers() -> list[Found]:
    """Servers on the known local ports, in the order of the backends' table."""
    addresses = list(dict.fromkeys(backend.default_url for backend in BACKENDS.values()))
    found: dict[str, Found] = {}

    async def look(address: str) -> None:
        url = parse_base_url(address)
        if await is_listening(url):
            with anyio.move_on_after(LOOK_SECONDS):
                found[address] = Found(url, await identify(url))

    async with anyio.create_task_group() as task_group:
        for address in addresses:
            task_group.start_soon(look, address)
    return [found[address] for address in addresses if address in found]


async def identify(url: BaseUrl) -> str:
    """The backend that answers at an address, by the owner it names in its model list."""
    client = UpstreamClient(ProviderSettings("", "openai-compatible", url), BACKENDS["generic"])
    quick = Timeouts(connect=1, first_token=LOOK_SECONDS, idle=1, stall=1, total=LOOK_SECONDS)
    try:
        document = await client.get_json("/v1/models", quick)
    except OllmError:
        return "generic"
    finally:
        await client.aclose()
    entries = document.get("data") if isinstance(document, dict) else None
    first = entries[0] if isinstance(entries, list) and entries else {}
    return _OWNERS.get(str(first.get("owned_by")) if isinstance(first, dict) else "", "generic")
