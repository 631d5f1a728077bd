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
    size_bytes: int | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    capabilities: list[str] | None = None
    loaded: bool | None = None


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
    response_formats: list[str]


class ProviderInfo(WireModel):
    """One configured provider."""

    name: str
    kind: str
    base_url: str
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

    layer: str
    source: str | None = None
    line: int | None = None


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

    workspace: str
    source: str
    question: str
    values: dict[str, Any]
    digest: str


class TrustGetResult(WireModel):
    """What awaits approval."""

    pending: list[RoutingRequest]


class TrustApproveParams(WireModel):
    """Approve one request, named by the digest of its content."""

    digest: str


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


class ErrorData(WireModel):
    """`data` of an error response, code -32803 for a provider's failure."""

    kind: str = Field(description="One of the closed list of kinds.")
    hint: str | None = Field(None, description="The next step.")
    provider: str | None = None
    model: str | None = None
    status: int | None = Field(None, description="HTTP status of the server.")
    retry_after: float | None = Field(None, description="Seconds.")
    partial_text: str | None = Field(None, description="Text that had arrived before the failure.")
