"""What the daemon uses: resolved, total, immutable; and the origin of every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ollm_daemon.domain import CompletionSettings, GenerationOptions, Origin, ProviderSettings

ORDER = (
    "default",
    "user file",
    "environment",
    "editor user settings",
    "workspace file",
    "editor workspace settings",
    "flags",
)
"""Layers from the weakest to the strongest; a request stands above all of them."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """Something in the configuration that the user should mend. Never holds a value.

    Attributes:
        awaits_approval: It is mended by the user's answer to a question.
    """

    severity: Literal["error", "warning"]
    message: str
    hint: str = ""
    key: str = ""
    source: str = ""
    line: int | None = None
    awaits_approval: bool = False

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}: " if self.line else f"{self.source}: " if self.source else ""
        return place + self.message


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value, shown as text with secrets masked, and where it came from."""

    key: str
    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """What a workspace wants to send where, for the user to approve as exactly this content."""

    workspace: str
    source: str
    question: str
    values: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Settings:
    """One consistent set of settings.

    Attributes:
        fallbacks: For a provider or an alias, who answers in its place, as the user wrote it.
        refusals: Providers by name that a workspace chose and may not, with the reason.
        pending: What awaits the user's approval.
    """

    provider: str
    model: str | None
    providers: Mapping[str, ProviderSettings]
    aliases: Mapping[str, str]
    options: GenerationOptions
    effective: tuple[Setting, ...]
    problems: tuple[ConfigProblem, ...] = ()
    pending: tuple[RoutingRequest, ...] = ()
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    completion: CompletionSettings = field(default_factory=CompletionSettings)
    refusals: Mapping[str, str] = field(default_factory=dict)

    def origin_of(self, key: str) -> Origin:
        """Where a value came from; the built-in defaults when nobody set it."""
        return next((setting.origin for setting in self.effective if setting.key == key), Origin("default"))

    def is_stronger(self, key: str, other: str) -> bool:
        """Whether a value comes from a stronger layer than another."""
        return ORDER.index(self.origin_of(key).layer) > ORDER.index(self.origin_of(other).layer)

    def is_configured(self, provider: str) -> bool:
        """Whether anybody said anything about a provider that is built in."""
        prefix = f"providers.{provider}."
        return any(
            setting.key.startswith(prefix) and setting.origin.layer != "default" for setting in self.effective
        )
