"""What `initialize` carries for the daemon: `initializationOptions` and `experimental.ollm`."""

from __future__ import annotations

from pydantic import Field

from ollm_daemon.protocol.base import WireModel
from ollm_daemon.protocol.state import ConfigSetParams


class InitializationOptions(ConfigSetParams):
    """`initializationOptions` of the `initialize` request."""

    token: str | None = Field(None, description="The daemon's token; required over TCP.")


class ExperimentalCapability(WireModel):
    """`capabilities.experimental.ollm` of the `initialize` result."""

    protocol_version: str
    methods: list[str]
