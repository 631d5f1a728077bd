"""Models, providers, settings, trust and the daemon's own state."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ollm_daemon.protocol.base import WireModel
from ollm_daemon.protocol.chat import Message
from ollm_daemon.protocol.completion import CompletionStatus

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


class NoParams(WireModel):
    """A request that takes nothing."""


class ModelInfo(WireModel):
    """One model; a field is left out where the server does not tell."""

    id: str
    context_length: int | None = Field(None, description="Tokens of the window it has been given.")
    max_context_length: int | None = Field(None, description="Tokens of the window it was trained for.")
    size_bytes: int | None = Field(None, description="Size of its files.")
    parameter_size: str | None = Field(None, description="Such as 7B.")
    quantization: str | None = Field(None, description="Such as Q4_K_M.")
    capabilities: list[str] | None = Field(
        None, description="Of completion, tools, vision, thinking, insert and embedding."
    )
    loaded: bool | None = Field(None, description="Whether it is in memory now.")


class ModelsListParams(WireModel):
    """Whose models."""

    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")


class ModelsListResult(WireModel):
    """The models one provider offers now."""

    provider: str
    models: list[ModelInfo]


class ModelsShowParams(WireModel):
    """Which model."""

    model: str = Field(min_length=1, description="Model or alias.")
    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")


class ModelsShowResult(WireModel):
    """What is known of one model."""

    provider: str
    model: ModelInfo


class ModelsChangeParams(WireModel):
    """Which model to pull, delete or unload."""

    model: str = Field(min_length=1, description="Model, in the server's own spelling, or alias.")
    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")
    work_done_token: str | int | None = Field(
        None, description="For `$/progress`; `window/workDoneProgress/cancel` stops the work."
    )


class ModelsLoadParams(ModelsChangeParams):
    """Which model to load."""

    keep_alive: float | str | None = Field(
        None,
        description="How long it stays unused, on Ollama: seconds, or such as 10m; negative is for ever.",
    )


class ModelsChangeResult(WireModel):
    """It is done."""

    provider: str
    model: str


class ModelsDidChangeParams(WireModel):
    """Whose models are others now."""

    provider: str


class ProviderCapabilities(WireModel):
    """What a provider can do, whatever the model."""

    list_models: bool
    pull_models: bool
    delete_models: bool
    load_models: bool
    unload_models: bool
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


ServerState = Literal["ready", "loading", "locked"]
"""Whether a server would answer, is still loading its model, or wants a key first."""


class DetectedServer(WireModel):
    """A server that answers at a known address of this machine."""

    base_url: str
    backend: str | None = Field(None, description="Its backend, as `backend` of a provider takes it.")
    title: str = Field(description="Its name for people.")
    version: str | None = None
    state: ServerState
    provider: str | None = Field(None, description="The configured provider that leads there.")


class ProvidersDetectResult(WireModel):
    """The servers that are up. No key was sent to any of them."""

    servers: list[DetectedServer]


class ProvidersCheckParams(WireModel):
    """Which provider to look at."""

    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")
    generate: bool = Field(True, description="Let a model write a few words, and cancel it once.")


class Trial(WireModel):
    """A few words that a model wrote."""

    model: str
    first_token_ms: float
    tokens_per_second: float | None = None
    cancelled_ms: float | None = Field(
        None, description="From a cancel in mid-answer to the first word of the next answer."
    )


class CheckProblem(WireModel):
    """Something that keeps a provider from working well, and the one thing to do about it."""

    message: str
    hint: str | None = None
    kind: ErrorKind | None = None


class ProvidersCheckResult(WireModel):
    """How a provider does."""

    provider: str
    base_url: str | None = None
    state: Literal["ready", "loading", "locked", "unreachable", "broken"]
    backend: str = Field(description="The server's name for people.")
    version: str | None = None
    key: Literal["none", "accepted", "missing", "refused"] = Field(
        description="Whether a key was sent, and what the server said to it."
    )
    models: list[ModelInfo]
    trial: Trial | None = None
    problems: list[CheckProblem]


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


class ConfigSetParams(WireModel):
    """Settings that the client tells apart by who wrote them; each that is given replaces its layer."""

    user_settings: dict[str, Any] | None = Field(
        None, description="Settings that the user, and no repository, made in the editor."
    )
    workspace_settings: dict[str, Any] | None = Field(
        None, description="Settings of the workspace; they may have been written by a repository."
    )
    flags: dict[str, Any] | None = Field(
        None, description="Settings of one run, such as flags of a command line."
    )
    workspace_trusted: bool | None = Field(
        None,
        description="Whether the user trusts the workspace, in an editor that asks. Of one that is not "
        "trusted nothing counts that would need approval, approved or not, and nobody is asked.",
    )


class ConfigSetResult(WireModel):
    """The settings count from now on."""

    problems: list[ConfigProblem] = Field(description="What is wrong with the configuration as a whole now.")


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
    completion: CompletionStatus


class TokensCountParams(WireModel):
    """What to count."""

    messages: list[Message] = Field(min_length=1)
    provider: str | None = Field(None, description="Provider or alias; the setting when left out.")
    model: str | None = Field(None, description="Model or alias; the setting when left out.")


class TokensCountResult(WireModel):
    """How much of the window a conversation takes."""

    tokens: int
    exact: bool = Field(description="Whether the server's own tokeniser counted; else it is an estimate.")
    provider: str
    model: str


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
