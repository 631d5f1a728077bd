"""What a layer of configuration may say. Everything is optional; names on the wire are camelCase.

These models are also the source of `/protocol/settings.schema.json`, so each field's text is what an
editor shows beside the setting.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic.alias_generators import to_camel

from ollm_daemon.urls import parse_base_url

ProviderKind = Literal["local", "vllm", "openai-compatible", "embedded"]
BackendName = Literal[
    "auto",
    "generic",
    "lmstudio",
    "localai",
    "textgen",
    "koboldcpp",
    "kobold",
    "llamacpp",
    "aphrodite",
    "tabbyapi",
    "fastchat",
    "production-stack",
    "vllm-router",
    "ray-serve",
]
Seconds = Annotated[float, Field(ge=1, le=86_400)]
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "origin",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-conversation-id",
    }
)
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e]*")
_KEY = re.compile(r"[\x21-\x7e]+")
_WORD = re.compile(r"\S{1,64}")
MAX_NAMES = 200
"""Providers, and aliases, that one layer may name."""


def check_key(key: str) -> None:
    """Check that a key can be sent in a header.

    Raises:
        ValueError: It cannot.
    """
    if not _KEY.fullmatch(key):
        raise ValueError("a key is printable ASCII without spaces, and not empty")


class OptionsModel(BaseModel):
    """Base of all options: camelCase names, and no value ever shown in an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=False,
        extra="ignore",
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )


class TimeoutOptions(OptionsModel):
    """Limits of one exchange, seconds from 1 to 86400."""

    connect: Seconds | None = Field(None, description="Until a connection stands.")
    first_token: Seconds | None = Field(
        None, description="Until the first text; covers loading the model and reading the prompt."
    )
    idle: Seconds | None = Field(None, description="Without a single byte in the middle of an answer.")
    stall: Seconds | None = Field(
        None, description="Without text in the middle of an answer, though bytes flow."
    )
    total: Seconds | None = Field(None, description="For the whole answer.")


class ProviderOptions(OptionsModel):
    """One provider: which kind of server, where, and with which credentials."""

    kind: ProviderKind | None = Field(
        None, description="The adapter to use. A built-in name (local, vllm, openai-compatible) needs none."
    )
    base_url: str | None = Field(None, description="Address of the server, such as http://gpu-server:8000.")
    api_key: SecretStr | None = Field(
        None, description="Key of the server. In the user file `${VARIABLE}` is filled in."
    )
    api_key_file: str | None = Field(None, description="File that holds the key, readable by you alone.")
    headers: dict[str, SecretStr] | None = Field(None, description="Further headers of each request.")
    backend: BackendName | None = Field(
        None, description="Which server speaks behind an openai-compatible provider."
    )
    proxy: str | None = Field(
        None, description="Proxy to go through; an empty text goes directly. Loopback always goes directly."
    )
    verify_tls: bool | None = Field(None, description="Whether the server's certificate is checked.")
    ca_file: str | None = Field(None, description="Certificate authority to trust, as a PEM file.")
    client_cert: str | None = Field(
        None,
        description="Certificate to show to the server, as a PEM file; it goes to its own address alone.",
    )
    client_key: str | None = Field(
        None,
        description="Key of the certificate, as a PEM file without a passphrase, if not in the same file.",
    )
    timeouts: TimeoutOptions | None = Field(None, description="Limits of one exchange.")
    selectable: bool | None = Field(
        None,
        description="Whether a workspace may choose this provider by name. One on this machine may be; "
        "others need true.",
    )
    model_path: str | None = Field(None, description="GGUF file of the embedded provider.")
    context_length: int | None = Field(
        None,
        ge=256,
        description="Tokens of the context window: what Ollama is to load models with, or what a server that "
        "does not tell has.",
    )

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            parse_base_url(value)
        return value

    @field_validator("proxy")
    @classmethod
    def _is_url_or_empty(cls, value: str | None) -> str | None:
        if value:
            parse_base_url(value)
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        for name, text in (value or {}).items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _RESERVED_HEADERS:
                raise ValueError(f"the header name {name[:40]!r} cannot be set")
            if not _HEADER_TEXT.fullmatch(text.get_secret_value()):
                raise ValueError(f"the header {name[:40]} holds a character that is not printable ASCII")
        return value

    @field_validator("api_key")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_key(value.get_secret_value())
        return value


class GenerationOptionsModel(OptionsModel):
    """Sampling options; what is left out is left to the server."""

    temperature: float | None = Field(None, ge=0, description="Randomness; 0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1, description="Nucleus sampling.")
    top_k: int | None = Field(None, ge=-1, description="Number of candidates kept.")
    min_p: float | None = Field(None, ge=0, le=1, description="Least probability relative to the best.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens to generate.")
    stop: list[str] | None = Field(None, description="Texts that end the answer.")
    seed: int | None = Field(None, description="Seed of the sampler.")
    repeat_penalty: float | None = Field(None, gt=0, description="Penalty for repetition; 1 is none.")
    presence_penalty: float | None = Field(None, ge=-2, le=2, description="OpenAI's presence penalty.")
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="OpenAI's frequency penalty.")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="Tell the probability of each token, and of so many others."
    )
    extra_body: dict[str, Any] | None = Field(
        None,
        description="Sent to the server as it is. vLLM's guided_json, guided_regex, guided_choice, "
        "guided_grammar, min_tokens, best_of, use_beam_search and skip_special_tokens are translated for the "
        "server's version.",
    )


class CompletionOptions(OptionsModel):
    """Text that is offered at the cursor."""

    enabled: bool | None = Field(None, description="Whether text is offered at all.")
    languages: dict[str, bool] | None = Field(
        None, max_length=MAX_NAMES, description="Languages, by identifier, that differ from `enabled`."
    )
    provider: str | None = Field(
        None, min_length=1, description="Provider that writes it; that of chats when left out."
    )
    model: str | None = Field(
        None, min_length=1, description="Code model that writes it; that of chats when left out."
    )
    family: str | None = Field(
        None, min_length=1, description="Family of the code model, when its name does not tell."
    )
    chat: bool | None = Field(
        None, description="Whether a model that is no code model may write, by being told to in a chat."
    )
    ahead: bool | None = Field(
        None,
        description="Whether what comes behind an offer is prepared before it is accepted; "
        "with llama.cpp alone, where it costs little, when left out.",
    )
    debounce_ms: int | None = Field(
        None, ge=0, le=5000, description="Pause after a keystroke; chosen from how you type when left out."
    )
    max_lines: int | None = Field(None, ge=1, le=200, description="Most lines of one offer.")
    max_tokens: int | None = Field(None, ge=1, le=4096, description="Most tokens of one offer.")
    context_tokens: int | None = Field(
        None, ge=64, le=131_072, description="Most tokens of the text around the cursor and from other files."
    )
    popup: bool | None = Field(
        None, description="Offer it in the list of textDocument/completion too, for editors without more."
    )
    extra_body: dict[str, Any] | None = Field(None, description="Sent to the server as it is.")


class PrivacyOptions(OptionsModel):
    """What never leaves the editor."""

    exclude: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None,
        max_length=MAX_NAMES,
        description="Globs of files that are neither completed nor sent along, beside keys and secrets. "
        "Those of all layers count.",
    )


class Options(OptionsModel):
    """Everything a layer may say."""

    provider: str | None = Field(
        None, min_length=1, description="Name of the provider to use; local when nobody says otherwise."
    )
    model: str | None = Field(None, min_length=1, description="Model or alias to use.")
    providers: dict[str, ProviderOptions] | None = Field(
        None, max_length=MAX_NAMES, description="Providers by name."
    )
    aliases: dict[str, str] | None = Field(
        None, max_length=MAX_NAMES, description="Names for a provider, or for a model as provider/model."
    )
    fallbacks: dict[str, list[Annotated[str, Field(min_length=1)]]] | None = Field(
        None,
        max_length=MAX_NAMES,
        description="For a provider or an alias: who answers instead when it cannot be reached or fails "
        "before its first word. Providers, aliases or provider/model, in this order.",
    )
    options: GenerationOptionsModel | None = Field(None, description="Default sampling options.")
    completion: CompletionOptions | None = Field(None, description="How text at the cursor is offered.")
    privacy: PrivacyOptions | None = Field(None, description="Which files are kept to yourself.")

    @field_validator("providers")
    @classmethod
    def _are_names(cls, value: dict[str, ProviderOptions] | None) -> dict[str, ProviderOptions] | None:
        for name in value or ():
            if not _PROVIDER_NAME.fullmatch(name):
                raise ValueError(f"the provider's name {name[:40]!r} is more than letters, digits, - and _")
        return value

    @field_validator("aliases")
    @classmethod
    def _are_words(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in value or ():
            if not _WORD.fullmatch(name) or not name.isprintable():
                raise ValueError(f"the alias {name[:40]!r} is not one word of at most 64 characters")
        return value
