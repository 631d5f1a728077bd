"""Which servers are up on this machine.

Looks at the known local ports in parallel, with a knock first and then GETs without any key. Ports
prove nothing, so a server is named by what it gives away of itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import anyio

from ollm_daemon.domain import Identity, ProviderSettings
from ollm_daemon.errors import ProviderError
from ollm_daemon.providers._http import UpstreamClient
from ollm_daemon.providers._identify import identify
from ollm_daemon.providers.backends import BACKENDS
from ollm_daemon.providers.facts import Backend
from ollm_daemon.urls import BaseUrl, parse_base_url

KNOCK_SECONDS = 0.4
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """A server that is up."""

    base_url: BaseUrl
    identity: Identity

    @property
    def facts(self) -> Backend:
        """Its record; that of an unknown server when nothing gave it away."""
        return BACKENDS[self.identity.backend or "generic"]


async def is_listening(url: BaseUrl) -> bool:
    """Whether a connection can be made, within a moment."""
    try:
        with anyio.fail_after(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(url.host, url.port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def find_local_servers() -> list[Found]:
    """Servers on the known local ports, in the order of the backends' table; under 1.5 s in all."""
    known = (backend.default_url for backend in BACKENDS.values() if backend.start)
    return await find_servers(list(dict.fromkeys(known)))


async def find_servers(addresses: list[str]) -> list[Found]:
    """Servers that answer at `addresses`, in this order."""
    found: dict[str, Found] = {}

    async def look(address: str) -> None:
        url = parse_base_url(address)
        if await is_listening(url):
            found[address] = Found(url, await look_at(url))

    async with anyio.create_task_group() as task_group:
        for address in addresses:
            task_group.start_soon(look, address)
    return [found[address] for address in addresses if address in found]


async def look_at(url: BaseUrl) -> Identity:
    """Who answers at an address, as far as a second is enough to tell."""
    client = UpstreamClient(ProviderSettings("", "openai-compatible", url), BACKENDS["generic"])
    try:
        return await identify(client, LOOK_SECONDS)
    except ProviderError:
        return Identity(None)
    finally:
        await client.aclose()
