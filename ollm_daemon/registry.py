"""Names to providers: what a user writes, resolved to one adapter and one model.

An alias may only name something that is already registered, and a name is registered once; so a chain
of aliases always ends, and a cycle cannot be written down.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from ollm_daemon.errors import ConfigError
from ollm_daemon.providers.base import ProviderAdapter


@dataclass(frozen=True, slots=True)
class Target:
    """Where an alias leads: a provider, and for a model alias the model too."""

    provider: str
    model: str | None = None


class ProviderRegistry:
    """Providers and aliases under the names users write."""

    def __init__(self) -> None:
        self._providers: dict[str, ProviderAdapter] = {}
        self._aliases: dict[str, Target] = {}

    def register(self, name: str, provider: ProviderAdapter) -> None:
        """Make `provider` known as `name`.

        Raises:
            ConfigError: The name is taken.
        """
        self._check_free(name)
        self._providers[name] = provider

    def register_alias(self, alias: str, target: str) -> None:
        """Make `alias` mean `target`: a provider or alias already known, or `provider/model`.

        Raises:
            ConfigError: The alias is taken, or the target is not known.
        """
        self._check_free(alias)
        found = self._find(target)
        if found is None:
            provider, slash, model = target.partition("/")
            found = self._find(provider) if slash and model else None
            if found is None or found.model is not None:
                raise ConfigError(
                    f"The alias `{alias}` leads to `{target}`, which is not known.",
                    hint=self._suggestion(provider) or f"Known: {', '.join(self.names)}.",
                )
            found = Target(found.provider, model)
        self._aliases[alias] = found

    def register_aliases(self, aliases: Mapping[str, str]) -> list[ConfigError]:
        """Register aliases that may lead to each other, in whatever order they were written.

        Returns:
            One error for each alias that cannot be registered, and one for each circle.
        """
        waiting = dict(aliases)
        errors = []
        while waiting:
            chain = [next(iter(waiting))]
            seen = set(chain)
            while (needed := self._needed(waiting[chain[-1]], waiting)) is not None and needed not in seen:
                chain.append(needed)
                seen.add(needed)
            if needed is not None:
                circle = chain[chain.index(needed) :]
                shown = " → ".join([*circle, needed])
                errors.append(ConfigError(f"Aliases lead in a circle: {shown}.", hint="Remove one of them."))
                for alias in circle:
                    del waiting[alias]
                continue
            for alias in reversed(chain):
                try:
                    self.register_alias(alias, waiting.pop(alias))
                except ConfigError as error:
                    errors.append(error)
        return errors

    def _needed(self, target: str, waiting: Mapping[str, str]) -> str | None:
        """The alias that must be registered before one that leads to `target`."""
        for name in (target, target.partition("/")[0]):
            if self._find(name) is not None:
                return None
            if name in waiting:
                return name
        return None

    @property
    def names(self) -> list[str]:
        """Names of all providers."""
        return sorted(self._providers)

    @property
    def aliases(self) -> Mapping[str, Target]:
        """All aliases, each with where it leads."""
        return dict(self._aliases)

    def providers(self) -> list[ProviderAdapter]:
        """All providers, by name."""
        return [self._providers[name] for name in self.names]

    def resolve(self, name: str) -> ProviderAdapter:
        """The provider a name or alias means.

        Raises:
            ConfigError: Nobody has this name; the hint lists near matches.
        """
        return self._providers[self._known(name).provider]

    def model_alias(self, name: str | None) -> Target | None:
        """Where an alias leads that names a model too; `None` for every other name."""
        target = self._aliases.get(name or "")
        return target if target is not None and target.model is not None else None

    def resolve_alias(self, name: str) -> tuple[ProviderAdapter, str | None]:
        """The adapter, and the model if the alias names one, that a provider's name or an alias means.

        Raises:
            ConfigError: As `resolve`.
        """
        target = self._known(name)
        return self._providers[target.provider], target.model

    def resolve_target(self, name: str) -> tuple[ProviderAdapter, str | None]:
        """The adapter and the model that one name means: a provider, an alias, or `provider/model`.

        Raises:
            ConfigError: Nobody has the name.
        """
        provider, slash, model = name.partition("/")
        if self._find(name) is None and slash and model:
            return self.resolve(provider), model
        return self.resolve_alias(name)

    def _known(self, name: str) -> Target:
        found = self._find(name)
        if found is None:
            raise ConfigError(
                f"There is no provider `{name}`.",
                hint=self._suggestion(name) or f"Known: {', '.join(self.names)}.",
            )
        return found

    def _find(self, name: str) -> Target | None:
        return Target(name) if name in self._providers else self._aliases.get(name)

    def _check_free(self, name: str) -> None:
        if self._find(name) is not None:
            raise ConfigError(f"The name `{name}` is taken.", hint="Choose another name for the alias.")

    def _suggestion(self, name: str) -> str:
        near = difflib.get_close_matches(name, [*self._providers, *self._aliases], n=3, cutoff=0.5)
        return f"Did you mean {' or '.join(f'`{match}`' for match in near)}?" if near else ""
