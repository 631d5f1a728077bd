"""What `initialize` carries for the daemon: `initializationOptions` and `experimental.ollm`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ollm_daemon.protocol.base import WireModel


class InitializationOptions(WireModel):
    """`initializationOptions` of the `initialize` request."""

    token: str | None = Field(None, description="The daemon's token; required over TCP.")
    user_settings: dict[str, Any] | None = Field(
        None, description="Settings that the user, and no repository, made in the editor."
    )
    workspace_settings: dict[str, Any] | None = Field(
        None, description="Settings of the workspace; they may have been written by a repository."
    )
    flags: dict[str, Any] | None = Field(
        None, description="Settings of one run, such as flags of a command line."
    )


class ExperimentalCapability(WireModel):
    """`capabilities.experimental.ollm` of the `initialize` result."""

    protocol_version: str
    methods: list[str]
