"""Pure: layers in, settings out, with the origin of every value.

The last layer that says something wins. Two things are decided here and nowhere else: what an
untrusted layer may say (see `trust`), and the one origin each key is bound to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from ollm_daemon.config.layers import ORDER, Layer, shown
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest, Setting, Settings
from ollm_daemon.config.trust import routing_request, split_layer
from ollm_daemon.domain import Credentials, GenerationOptions, Origin, ProviderSettings, Timeouts
from ollm_daemon.urls import BaseUrl, parse_base_url

_OPTION_NAMES = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "minP": "min_p",
    "maxTokens": "max_tokens",
    "seed": "seed",
    "repeatPenalty": "repeat_penalty",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
}
_TIMEOUT_NAMES = {
    "connect": "connect",
    "firstToken": "first_token",
    "idle": "idle",
    "stall": "stall",
    "total": "total",
}
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


def resolve(layers: Iterable[Layer], outside: Outside = Outside()) -> Settings:
    """Settings from `layers`, in any order; see `layers.ORDER` for who wins."""
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
        request = routing_request(self._outside.workspace, layer.source or layer.name, routing)
        if self._outside.approved(request):
            return routing
        self._pending.append(request)
        self._dropped.update(key.split(".")[1] for key in routing)
        return {}

    def finish(self) -> Settings:
        names = sorted({key.split(".")[1] for key in self._said if key.startswith("providers.")})
        providers = {name: built for name in names if (built := self._provider(name)) is not None}
        provider = self._chosen_provider(providers)
        self._warn_about_pending()
        return Settings(
            provider=provider,
            model=self._value("model"),
            providers=providers,
            aliases={
                key.removeprefix("aliases."): said[-1].value
                for key, said in self._said.items()
                if key.startswith("aliases.")
            },
            options=self._options(),
            effective=tuple(self._effective()),
            problems=tuple(dict.fromkeys(self._problems)),
            pending=tuple(self._pending),
            refusals=self._refusals,
        )

    def _value(self, key: str, layers: Callable[[Layer], bool] = lambda layer: True) -> Any:
        said = self._last(key, layers)
        return said.value if said else None

    def _last(self, key: str, layers: Callable[[Layer], bool] = lambda layer: True) -> _Said | None:
        return next((said for said in reversed(self._said.get(key, ())) if layers(said.layer)), None)

    def _chosen_provider(self, providers: Mapping[str, ProviderSettings]) -> str:
        """The provider's name; one that only an unapproved part of the workspace defines is passed over."""
        chosen = [
            said
            for said in self._said.get("provider", ())
            if said.layer.trusted or said.value in providers or said.value not in self._dropped
        ]
        said = chosen[-1] if chosen else None
        if said is None:
            return "local"
        settings = providers.get(said.value)
        if not said.layer.trusted and settings and not self._selectable(settings):
            self._ask_for_name(said, settings)
        return str(said.value)

    def _selectable(self, settings: ProviderSettings) -> bool:
        marked = self._value(f"providers.{settings.name}.selectable", lambda layer: layer.trusted)
        return settings.base_url.is_loopback if marked is None else bool(marked)

    def _ask_for_name(self, said: _Said, settings: ProviderSettings) -> None:
        """A workspace chose a provider on another machine that the user did not offer to workspaces."""
        values = {f"providers.{settings.name}.baseUrl": str(settings.base_url), "provider": settings.name}
        request = routing_request(self._outside.workspace, said.layer.source or said.layer.name, values)
        if not self._outside.approved(request):
            self._pending.append(request)
            self._refusals[settings.name] = (
                f"This workspace chooses the provider {settings.name} at {settings.base_url}, "
                "which is on another machine and needs your approval."
            )

    def _warn_about_pending(self) -> None:
        for request in self._pending:
            keys = ", ".join(f"`{key}`" for key, value in request.values.items() if value is not None)
            self._problems.append(
                ConfigProblem(
                    "warning",
                    f"{keys} from the workspace is not used until you approve it.",
                    "Run `ollm trust` in the workspace.",
                    next(iter(request.values)),
                    request.source,
                )
            )

    def _provider(self, name: str) -> ProviderSettings | None:
        def value(field: str) -> Any:
            return self._value(f"providers.{name}.{field}")

        kind, address = value("kind"), value("baseUrl")
        if kind is None or (address is None and kind != "embedded"):
            missing = "kind" if kind is None else "baseUrl"
            said = self._last(f"providers.{name}")
            origin = said.layer.origin(f"providers.{name}") if said else Origin("")
            self._problems.append(
                ConfigProblem(
                    "error",
                    f"the provider `{name}` has no `{missing}`.",
                    f"Add `{missing}` to it.",
                    f"providers.{name}",
                    origin.source,
                    origin.line,
                )
            )
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
            headers=self._headers(name, trusted=False),
            proxy=self._proxy(name, base_url),
            verify_tls=value("verifyTls") is not False,
            ca_file=value("caFile"),
            timeouts=self._timeouts(name, base_url),
            model_path=value("modelPath"),
        )

    def _credentials(self, name: str) -> Credentials | None:
        """The key and headers the user configured, bound to the address the user configured.

        A key is bound to the address that the user's own layers give; one from a flag to the address
        with that flag. What a workspace says about the address never moves a key.
        """
        key = self._last(f"providers.{name}.apiKey", lambda layer: layer.trusted)
        file = self._last(f"providers.{name}.apiKeyFile", lambda layer: layer.trusted)
        headers = self._headers(name, trusted=True)
        said = max(
            (said for said in (key, file) if said),
            key=lambda said: ORDER.index(said.layer.name),
            default=None,
        )
        secret: SecretStr | None = None
        if said is not None and said is file:
            text, problem = self._outside.read_secret(str(said.value))
            if text is None:
                self._problems.append(
                    ConfigProblem(
                        "error", f"`providers.{name}.apiKeyFile`: {problem}", source=said.layer.source
                    )
                )
            else:
                secret = SecretStr(text)
        elif said is not None:
            secret = said.value
        if secret is None and not headers:
            return None
        with_flags = said is not None and said.layer.name == "flags"
        address = self._value(
            f"providers.{name}.baseUrl",
            lambda layer: layer.trusted and (with_flags or layer.name != "flags"),
        )
        if address is None:
            return None
        return Credentials(
            parse_base_url(address).origin, secret, tuple((key, SecretStr(text)) for key, text in headers)
        )

    def _headers(self, name: str, *, trusted: bool) -> tuple[tuple[str, str], ...]:
        prefix = f"providers.{name}.headers."
        found = {
            key.removeprefix(prefix): said[-1].value.get_secret_value()
            for key, said in self._said.items()
            if key.startswith(prefix) and said[-1].layer.trusted is trusted
        }
        return tuple(sorted(found.items()))

    def _proxy(self, name: str, base_url: BaseUrl) -> str | None:
        if base_url.is_loopback:
            return None
        explicit = self._value(f"providers.{name}.proxy")
        return explicit or None if explicit is not None else self._outside.proxy_for(base_url)

    def _timeouts(self, name: str, base_url: BaseUrl) -> Timeouts:
        said = {
            ours: value
            for theirs, ours in _TIMEOUT_NAMES.items()
            if (value := self._value(f"providers.{name}.timeouts.{theirs}")) is not None
        }
        if not base_url.is_loopback:
            said.setdefault("first_token", REMOTE_FIRST_TOKEN_SECONDS)
        return Timeouts(**said)

    def _warn_about_address(self, name: str, base_url: BaseUrl, credentials: Credentials | None) -> None:
        warnings = []
        if credentials and base_url.scheme == "http" and not base_url.is_loopback:
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
        values = {
            ours: value
            for theirs, ours in _OPTION_NAMES.items()
            if (value := self._value(f"options.{theirs}")) is not None
        }
        return GenerationOptions(
            **values,
            stop=tuple(self._value("options.stop") or ()),
            extra_body=self._value("options.extraBody") or {},
        )

    def _effective(self) -> Sequence[Setting]:
        return [
            Setting(key, shown(key, said[-1].value), said[-1].layer.origin(key))
            for key, said in sorted(self._said.items())
            if said[-1].value is not None
        ]
