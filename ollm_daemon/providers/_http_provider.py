"""What every provider that speaks HTTP to one server has, whatever the dialect."""

from __future__ import annotations

from ollm_daemon.domain import ProviderSettings
from ollm_daemon.providers._http import UpstreamClient
from ollm_daemon.providers.backends import Backend


class HttpProvider:
    """Name, address and connections of a provider; subclasses add the dialect."""

    def __init__(self, settings: ProviderSettings, backend: Backend) -> None:
        self.settings = settings
        self.backend = backend
        self.http = UpstreamClient(settings, backend)

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self.settings.name

    @property
    def base_url(self) -> str:
        """The address it sends to."""
        return str(self.http.base_url)

    @property
    def limits_seconds(self) -> float:
        """How long a generation may wait for its first text."""
        return self.settings.timeouts.first_token

    @property
    def open_connections(self) -> int:
        """Sockets to its server, idle ones too."""
        return self.http.open_connections

    async def connect_ahead(self) -> None:
        """As `ProviderAdapter.connect_ahead`."""
        await self.http.connect_ahead()

    async def aclose(self) -> None:
        """Close its connections."""
        await self.http.aclose()
