"""The wire contract of `ollm/*` as pydantic models and one table of methods.

This package is the hand-written source of everything in `/protocol`; it imports nothing of ours. This
module holds what the answer to `initialize` needs, and imports nothing at all.
"""

PROTOCOL_VERSION = "1.0"
"""Announced in `capabilities.experimental.ollm.protocolVersion`. Within a major version methods and
fields are added, never removed, retyped or made required."""

METHOD_NAMES = (
    "ollm/chat",
    "ollm/completion/delta",
    "ollm/completion/didChange",
    "ollm/completion/feedback",
    "ollm/config/didChange",
    "ollm/config/get",
    "ollm/config/set",
    "ollm/infill",
    "ollm/models/delete",
    "ollm/models/didChange",
    "ollm/models/list",
    "ollm/models/load",
    "ollm/models/pull",
    "ollm/models/show",
    "ollm/models/unload",
    "ollm/privacy/check",
    "ollm/providers/check",
    "ollm/providers/detect",
    "ollm/providers/list",
    "ollm/status",
    "ollm/tokens/count",
    "ollm/trust/approve",
    "ollm/trust/get",
)
"""Every name in METHODS, sorted."""
