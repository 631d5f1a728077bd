"""Pure: layers in, settings out, with the origin of every value.

The last layer that says something wins. Two things are decided here and nowhere else: what an
untrusted layer may say (see `trust`), and the one origin each key is bound to.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import SecretStr
from pydantic.alias_generators import to_camel

from ollm_daemon.config.layers import Layer, shown
from ollm_daemon.config.settings import ORDER, ConfigProblem, RoutingRequest, Setting, Settings
from ollm_daemon.config.sources import KEY_VARIABLES
from ollm_daemon.config.trust import routing_request, split_layer
from ollm_daemon.domain import (
    CompletionSettings,
    Credentials,
    GenerationOptions,
    Origin,
    ProviderSettings,
    Timeouts,
)
from ollm_daemon.urls import BaseUrl, parse_base_url

_BACKEND_SPELLINGS = {"kobold": "koboldcpp"}
REMOTE_FIRST_TOKEN_SECONDS = 120.0
"""Default limit to the first text from another machine; a model that loads on this one takes longer."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What resolving asks of the world, so that it stays pure.

    Attributes:
        workspace: Real path of the workspace, empty when there is none.
        approved: Whether the user approved this content.
        read_secret: A key file's line, or `None` and what is wrong.
        proxy_for: The environment's proxy for an address.
    """

    workspace: str = ""
    approved: Callable[[RoutingRequest], bool] = lambda request: False
    read_secret: Callable[[str], tuple[str | None, str]] = lambda path: (None, "no files here")
    proxy_for: Callable[[BaseUrl], str | None] = lambda url: None


@dataclass(frozen=True, slots=True)
class _Said:
    """One value and the layer that says it."""

    value: Any
    layer: Layer

    @property
    def rank(self) -> int:
        """How much its word counts."""
        return ORDER.index(self.layer.name)


def _any(layer: Layer) -> bool:
    return True


def _trusted(layer: Layer) -> bool:
    return layer.trusted


def resolve(layers: Iterable[Layer], outside: Outside = Outside()) -> Settings:
    """Settings from `layers`, in any order; see `settings.ORDER` for who wins."""
    resolver = _Resolver(outside)
    for layer in sorted(layers, key=lambda layer: ORDER.index(layer.name)):
        resolver.add(layer)
    return resolver.finish()


class _Resolver:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._said: dict[str, list[_Said]] = {}
        self._problems: list[ConfigProblem] = []
        self._pending: list[RoutingRequest] = []
        self._dropped: set[str] = set()
        self._offered: set[str | None] = set()
        self._refusals: dict[str, str] = {}

    def add(self, layer: Layer) -> None:
        self._problems += layer.problems
        values: Mapping[str, Any] = layer.values
        if not layer.trusted:
            values, routing, problems = split_layer(layer)
            self._problems += problems
            if routing:
                values = {**values, **self._approved_routing(layer, routing)}
        for key, value in values.items():
            self._said.setdefault(key, []).append(_Said(value, layer))

    def _approved_routing(self, layer: Layer, routing: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._is_approved(layer, routing):
            return routing
        self._dropped.update(key.split(".")[1] for key in routing)
        return {}

    def _is_approved(self, layer: Layer, values: Mapping[str, Any]) -> bool:
        """Whether the user approved what a workspace says; if not, it is pending."""
        request = routing_request(self._outside.workspace, layer.source or layer.name, values)
        if self._outside.approved(request):
            return True
        self._pending.append(request)
        keys = [key for key, value in request.values.items() if value is not None]
        named = ", ".join(f"`{key}`" for key in keys)
        self._problems.append(
            ConfigProblem(
                "warning",
                f"{named} from the workspace is not used until you approve it.",
                "Run `ollm trust` in the workspace.",
                keys[0],
                request.source,
                layer.lines.get(keys[0]),
                awaits_approval=True,
            )
        )
        return False

    def finish(self) -> Settings:
        names = sorted({key.split(".")[1] for key in self._said if key.startswith("providers.")})
        providers = {name: built for name in names if (built := self._provider(name)) is not None}
        self._check_names(providers)
        return Settings(
            provider=self._value("provider") or "local",
            model=self._value("model"),
            providers=providers,
            aliases={
                key.removeprefix("aliases."): said[-1].value
                for key, said in self._said.items()
                if key.startswith("aliases.") and not self._is_shadowed(key, said[-1])
            },
            options=self._options(),
            effective=tuple(self._effective()),
            problems=tuple(dict.fromkeys(self._problems)),
            pending=tuple(self._pending),
            completion=self._completion(),
            fallbacks={
                key.removeprefix("fallbacks."): tuple(said[-1].value)
                for key, said in self._said.items()
                if key.startswith("fallbacks.")
            },
            refusals=self._refusals,
        )

    def _value(self, key: str, layers: Callable[[Layer], bool] = _any) -> Any:
        said = self._last(key, layers)
        return said.value if said else None

    def _is_spare_key(self, name: str) -> bool:
        """Whether all that is said of a provider is a key that an editor keeps for where it is configured."""
        key = f"providers.{name}.apiKey"
        said = {other for other in self._said if other.startswith(f"providers.{name}.")}
        return said == {key} and self._said[key][-1].layer.name == "editor user settings"

    def _last(self, key: str, layers: Callable[[Layer], bool] = _any) -> _Said | None:
        return next((said for said in reversed(self._said.get(key, ())) if layers(said.layer)), None)

    def _check_names(self, providers: Mapping[str, ProviderSettings]) -> None:
        """Whether a workspace may send prompts where the names it uses lead.

        An alias, or a model that is one, is passed over if it leads where it may not; so is a provider that
        only an unapproved part of the workspace defines. Any other provider it may not choose is refused.
        """
        own = (self._value("provider", _trusted) or "local", self._value("model", _trusted) or "")
        self._offered = {self._leads_to(name, providers, _trusted) for name in own}
        unknown = self._drop_aliases(providers)
        self._forget("provider", (self._dropped - providers.keys()) | unknown)
        self._forget("model", unknown)
        for key in ("provider", "model"):
            said = self._last(key)
            if said is None or said.layer.trusted:
                continue
            if key == "model" and f"aliases.{said.value}" not in self._said:
                continue
            settings = providers.get(self._leads_to(said.value, providers) or "")
            if settings is None or self._may_use(settings, {key: said.value}, said.layer):
                continue
            if key == "model":
                self._forget(key)
            else:
                self._refusals[settings.name] = (
                    f"This workspace chooses the provider {settings.name} at {settings.base_url}, "
                    "which is on another machine and needs your approval."
                )

    def _drop_aliases(self, providers: Mapping[str, ProviderSettings]) -> set[str]:
        """Forget a workspace's aliases that lead where it may not; gives the names nobody else knows."""
        by_target: dict[str, list[str]] = {}
        for key, sayings in self._said.items():
            if key.startswith("aliases.") and not sayings[-1].layer.trusted:
                target = self._leads_to(key.removeprefix("aliases."), providers)
                by_target.setdefault(target or "", []).append(key)
        dropped = []
        for target, keys in by_target.items():
            values = {key: self._value(key) for key in keys}
            layer = self._said[keys[0]][-1].layer
            if target and not self._may_use(providers[target], values, layer):
                dropped += keys
        for key in dropped:
            self._forget(key)
        return {key.removeprefix("aliases.") for key in dropped if key not in self._said}

    def _leads_to(
        self,
        name: str,
        providers: Mapping[str, ProviderSettings],
        layers: Callable[[Layer], bool] = _any,
    ) -> str | None:
        """The provider that a name, an alias or `provider/model` means."""
        seen: set[str] = set()
        while name not in providers:
            if name in seen:
                return None
            seen.add(name)
            name = self._value(f"aliases.{name}", layers) or name.partition("/")[0]
        return name

    def _may_use(self, settings: ProviderSettings, names: Mapping[str, str], layer: Layer) -> bool:
        """Whether a workspace may choose this provider by these names; asks for approval if not."""
        key = f"providers.{settings.name}"
        if settings.name in self._offered or self._is_selectable(settings):
            return True
        if self._is_approved(layer, {**names, f"{key}.baseUrl": str(settings.base_url)}):
            self._offered.add(settings.name)
            return True
        return False

    def _is_selectable(self, settings: ProviderSettings) -> bool:
        marked = self._value(f"providers.{settings.name}.selectable", _trusted)
        if marked is not None:
            return bool(marked)
        # An address that the workspace itself gives is in use because it was approved.
        address = self._last(f"providers.{settings.name}.baseUrl")
        return settings.base_url.is_loopback or (address is not None and not address.layer.trusted)

    def _forget(self, key: str, names: Container[str] | None = None) -> None:
        """Take back what workspaces say under `key`: all of it, or these names."""
        kept = [
            said
            for said in self._said.pop(key, ())
            if said.layer.trusted or (names is not None and said.value not in names)
        ]
        if kept:
            self._said[key] = kept

    def _provider(self, name: str) -> ProviderSettings | None:
        def value(field: str) -> Any:
            return self._value(f"providers.{name}.{field}")

        kind, address = value("kind"), value("baseUrl")
        if kind is None or (address is None and kind != "embedded"):
            key, missing = f"providers.{name}", "kind" if kind is None else "baseUrl"
            if not self._is_spare_key(name):
                said = self._last(key)
                origin = said.layer.origin(key) if said else Origin("")
                message, hint = f"the provider `{name}` has no `{missing}`.", f"Add `{missing}` to it."
                self._problems.append(ConfigProblem("error", message, hint, key, origin.source, origin.line))
            return None
        base_url = parse_base_url(address or "http://127.0.0.1:1")
        backend = value("backend") or "auto"
        credentials = self._credentials(name)
        self._warn_about_address(name, base_url, credentials)
        return ProviderSettings(
            name=name,
            kind=kind,
            base_url=base_url,
            backend=_BACKEND_SPELLINGS.get(backend, backend),
            credentials=credentials,
            headers=tuple(
                (header, said.value.get_secret_value()) for header, said in self._headers(name, trusted=False)
            ),
            proxy=self._proxy(name, base_url),
            verify_tls=value("verifyTls") is not False,
            ca_file=value("caFile"),
            timeouts=self._timeouts(name, base_url),
            model_path=value("modelPath"),
            context_length=value("contextLength"),
            key_variable=next((key for key, owner in KEY_VARIABLES.items() if owner == name), None),
        )

    def _credentials(self, name: str) -> Credentials | None:
        """The key, headers and certificate the user configured, bound to the address the user configured.

        What a workspace says about the address never moves a key. Where a workspace decides the way there,
        by a proxy or by whom to trust, no key goes along at all.
        """
        way = (self._last(f"providers.{name}.{field}") for field in ("proxy", "verifyTls", "caFile"))
        if any(said is not None and not said.layer.trusted for said in way):
            return None
        key = self._key(name)
        headers = self._headers(name, trusted=True)
        certificate = self._last(f"providers.{name}.clientCert", _trusted)
        secrets = [said for said in (*(said for _, said in headers), key, certificate) if said]
        origin = self._bound_to(name, max(secrets, key=lambda said: said.rank)) if secrets else None
        if origin is None:
            return None
        shows_certificate = certificate and self._bound_to(name, certificate) == origin
        return Credentials(
            origin,
            key.value if key and self._bound_to(name, key) == origin else None,
            tuple((header, said.value) for header, said in headers if self._bound_to(name, said) == origin),
            certificate.value if certificate and shows_certificate else None,
            self._value(f"providers.{name}.clientKey", _trusted) if shows_certificate else None,
        )

    def _is_shadowed(self, alias: str, said: _Said) -> bool:
        """Whether a built-in alias gives way to a provider that somebody named so."""
        return said.layer.name == "default" and f"providers.{alias.removeprefix('aliases.')}" in self._said

    def _bound_to(self, name: str, secret: _Said) -> str | None:
        """The origin a secret is for: the address written beside it or in a weaker layer of the user's; when
        there is none, the address the user gives anywhere but in a flag.
        """
        key = f"providers.{name}.baseUrl"

        def beside(layer: Layer) -> bool:
            return layer.trusted and layer.name != "default" and ORDER.index(layer.name) <= secret.rank

        address = self._value(key, beside) or self._value(
            key, lambda layer: layer.trusted and layer.name != "flags"
        )
        return None if address is None else parse_base_url(address).origin

    def _key(self, name: str) -> _Said | None:
        """The strongest key; one from a file is read."""
        key = self._last(f"providers.{name}.apiKey", _trusted)
        file = self._last(f"providers.{name}.apiKeyFile", _trusted)
        if file is None or (key is not None and key.rank >= file.rank):
            return key
        text, problem = self._outside.read_secret(str(file.value))
        if problem:
            field = f"providers.{name}.apiKeyFile"
            origin = file.layer.origin(field)
            severity: Literal["error", "warning"] = "error" if text is None else "warning"
            self._problems.append(
                ConfigProblem(
                    severity, f"`{field}`: {problem}", key=field, source=origin.source, line=origin.line
                )
            )
        return None if text is None else _Said(SecretStr(text), file.layer)

    def _headers(self, name: str, *, trusted: bool) -> list[tuple[str, _Said]]:
        """Headers from trusted or from other layers; of two spellings of one name the last one counts."""
        prefix = f"providers.{name}.headers."
        found: dict[str, tuple[str, _Said]] = {}
        for key, sayings in self._said.items():
            if key.startswith(prefix):
                header, said = key.removeprefix(prefix), sayings[-1]
                known = found.get(header.lower())
                if known is None or known[1].rank < said.rank:
                    found[header.lower()] = header, said
        return sorted(
            (item for item in found.values() if item[1].layer.trusted is trusted), key=lambda item: item[0]
        )

    def _proxy(self, name: str, base_url: BaseUrl) -> str | None:
        if base_url.is_loopback:
            return None
        explicit = self._value(f"providers.{name}.proxy")
        return explicit or None if explicit is not None else self._outside.proxy_for(base_url)

    def _timeouts(self, name: str, base_url: BaseUrl) -> Timeouts:
        said = self._filled(Timeouts, f"providers.{name}.timeouts")
        if not base_url.is_loopback:
            said.setdefault("first_token", REMOTE_FIRST_TOKEN_SECONDS)
        return Timeouts(**said)

    def _warn_about_address(self, name: str, base_url: BaseUrl, credentials: Credentials | None) -> None:
        warnings = []
        sent = credentials is not None and credentials.in_headers and credentials.origin == base_url.origin
        if sent and base_url.scheme == "http" and not base_url.is_loopback:
            warnings.append(
                (f"the key of `{name}` travels unencrypted to {base_url}.", "Use https where you can.")
            )
        if base_url.is_link_local:
            warnings.append((f"`{name}` is at a link-local address, {base_url}.", ""))
        if self._value(f"providers.{name}.verifyTls") is False:
            warnings.append(
                (f"the certificate of `{name}` is not checked.", "Name its authority in `caFile`.")
            )
        for message, hint in warnings:
            self._problems.append(ConfigProblem("warning", message, hint, f"providers.{name}"))

    def _options(self) -> GenerationOptions:
        values = self._filled(GenerationOptions, "options")
        return GenerationOptions(**{**values, "stop": tuple(values.get("stop", ()))})

    def _completion(self) -> CompletionSettings:
        # Nobody can take back what somebody wants kept private.
        exclude = [glob for said in self._said.get("privacy.exclude", ()) for glob in said.value]
        values = self._filled(CompletionSettings, "completion")
        return CompletionSettings(**{**values, "exclude": tuple(dict.fromkeys(exclude))})

    def _filled(self, kind: type[Any], path: str) -> dict[str, Any]:
        """What the layers say of the fields of a dataclass, under its names in the configuration."""
        return {
            field.name: value
            for field in fields(kind)
            if (value := self._value(f"{path}.{to_camel(field.name)}")) is not None
        }

    def _effective(self) -> Sequence[Setting]:
        return [
            Setting(key, shown(key, said[-1].value), said[-1].layer.origin(key))
            for key, said in sorted(self._said.items())
            if said[-1].value is not None
        ]
