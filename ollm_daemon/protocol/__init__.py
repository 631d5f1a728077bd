"""The wire contract of `ollm/*` as pydantic models and one table of methods.

This package is the hand-written source of everything in `/protocol`; it imports nothing of ours.
"""

PROTOCOL_VERSION = "1.0"
"""Announced in `capabilities.experimental.ollm.protocolVersion`. Within a major version methods and
fields are added, never removed, retyped or made required."""
