"""Models, providers, settings, trust and the daemon's own state."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ollm_daemon.protocol.base import WireModel


class NoParams(WireModel):
    """A request that takes nothing."""


class ModelInfo(WireModel):
    """One model; a field is left out where the server does not tell."""

    id: str
    context_length: int | None = Field(None, description="Tokens; the loaded window where it is known.")
    size_bytes: int | None = Field(None, description="Size of its files.")
    parameter_size: str | None = Field(None, description="Such as 7B.")
    quantization: str | None = Field(None, description="Such as Q4_K_M.")
    capabilities: list[str] | None = Field(
        None, description="In the server's words, such as tools or insert."
    )
    loaded: bool | None = Field(None, description="Whether it is in memory now.")


class ModelsListParams(WireModel):
    """Whose models."""

    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")


class ModelsListResult(WireModel):
    """The models one provider offers now."""

    provider: str
    models: list[ModelInfo]


class ProviderCapabilities(WireModel):
    """What a provider can do, whatever the model."""

    list_models: bool
    pull_models: bool
    delete_models: bool
    tools: bool
    images: bool
    response_formats: list[Literal["json", "jsonSchema", "regex", "choice", "grammar"]] = Field(
        description="Constraints it can put on an answer."
    )


class ProviderInfo(WireModel):
    """One configured provider."""

    name: str
    kind: Literal["local", "vllm", "openai-compatible", "embedded"]
    base_url: str | None = Field(None, description="Left out for a server that has yet to pick its address.")
    backend: str = Field(description="The server's name for people.")
    streaming_format: Literal["ndjson", "sse"]
    is_default: bool
    capabilities: ProviderCapabilities


class AliasInfo(WireModel):
    """Where an alias leads."""

    alias: str
    provider: str
    model: str | None = None


class ProvidersListResult(WireModel):
    """All providers and aliases of this connection."""

    providers: list[ProviderInfo]
    aliases: list[AliasInfo]


class SettingOrigin(WireModel):
    """Where a value came from."""

    layer: Literal[
        "default",
        "user file",
        "environment",
        "editor user settings",
        "workspace file",
        "editor workspace settings",
        "flags",
    ]
    source: str | None = Field(None, description="Path of the file.")
    line: int | None = Field(None, description="Line in it, from 1.")


class EffectiveSetting(WireModel):
    """One effective value; secrets read `***`."""

    key: str
    value: Any
    origin: SettingOrigin


class ConfigProblem(WireModel):
    """Something in the configuration that the user should mend."""

    severity: Literal["error", "warning"]
    message: str
    hint: str | None = None
    key: str | None = None
    source: str | None = None
    line: int | None = None


class ConfigGetResult(WireModel):
    """The settings of this connection."""

    settings: list[EffectiveSetting]
    problems: list[ConfigProblem]


class ConfigDidChangeParams(WireModel):
    """The settings of this connection were resolved anew."""

    problems: list[ConfigProblem]


class RoutingRequest(WireModel):
    """What a workspace wants to send where, awaiting approval."""

    workspace: str = Field(description="Its real path.")
    source: str = Field(description="The file, or the layer, that asks.")
    question: str = Field(description="The sentence to put to the user.")
    values: dict[str, Any] = Field(description="The settings in question, by key.")
    digest: str = Field(description="Names exactly this content.")


class TrustGetResult(WireModel):
    """What awaits approval."""

    pending: list[RoutingRequest]


class TrustApproveParams(WireModel):
    """Approve one request, named by the digest of its content."""

    digest: str = Field(description="As `ollm/trust/get` gave it.")


class TrustApproveResult(WireModel):
    """Whether there was such a request."""

    approved: bool


class StatusResult(WireModel):
    """The daemon itself."""

    version: str
    protocol_version: str
    pid: int
    uptime_ms: float
    connections: int
    requests: int = Field(description="Requests that are being worked on, this one included.")
    upstream_connections: int = Field(description="Open sockets to servers, idle ones too.")
    memory_bytes: int | None = Field(None, description="Resident memory, where the system tells.")


ErrorKind = Literal[
    "config",
    "unsupported",
    "unreachable",
    "dns",
    "tls",
    "proxy",
    "redirect",
    "timeout_connect",
    "timeout_first_token",
    "timeout_idle",
    "timeout_total",
    "auth",
    "forbidden",
    "not_found",
    "too_large",
    "invalid",
    "rate_limited",
    "overloaded",
    "context_length",
    "backend",
    "protocol",
    "bad_content_type",
    "stream_truncated",
    "limit",
    "internal",
]
"""What went wrong, as a closed list; see ERROR_KINDS."""


class ErrorData(WireModel):
    """`data` of an error response, code -32803 for a provider's failure."""

    kind: ErrorKind
    hint: str | None = Field(None, description="The next step.")
    provider: str | None = Field(None, description="The provider that failed.")
    model: str | None = Field(None, description="The model that was asked for.")
    status: int | None = Field(None, description="HTTP status of the server.")
    retry_after: float | None = Field(None, description="Seconds.")
    partial_text: str | None = Field(None, description="Text that had arrived before the failure.")


class ParamsProblem(WireModel):
    """One item of `data` of an error response with code -32602."""

    key: str = Field(description="Dotted path of the wrong value; empty for the params as a whole.")
    message: str
