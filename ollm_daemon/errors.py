"""Every failure the daemon knows by name; none of them knows JSON-RPC.

    OllmError
    ├── ConfigError             a setting, alias or provider name the user can mend
    ├── InvalidRequestError     the request itself cannot be answered, wherever it is sent
    ├── UnsupportedError        refused before a request is sent: this server or model cannot do it
    └── ProviderError           the server behind a provider failed us
        ├── UnreachableError    no connection: refused, name not found, TLS, proxy
        ├── TimeoutPassedError  a phase took longer than its limit
        ├── RefusedError        an answer that says no: key, model, size, rate, load
        └── BrokenAnswerError   an answer that breaks its protocol: cut, mislabelled, over a limit

An error carries a `kind` from the closed list below, one sentence that names the cause, and a `hint`
that names the fix. `retryable` is true when the same request may succeed if sent again unchanged.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """What went wrong, as a closed set that a client may switch on."""

    CONFIG = "config"
    UNSUPPORTED = "unsupported"
    UNREACHABLE = "unreachable"
    DNS = "dns"
    TLS = "tls"
    PROXY = "proxy"
    REDIRECT = "redirect"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_FIRST_TOKEN = "timeout_first_token"  # noqa: S105
    TIMEOUT_IDLE = "timeout_idle"
    TIMEOUT_TOTAL = "timeout_total"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    INVALID = "invalid"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    CONTEXT_LENGTH = "context_length"
    BACKEND = "backend"
    PROTOCOL = "protocol"
    BAD_CONTENT_TYPE = "bad_content_type"
    STREAM_TRUNCATED = "stream_truncated"
    LIMIT = "limit"


RETRYABLE = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED, ErrorKind.BACKEND})
"""Kinds for which the same request, sent again, may succeed."""


class OllmError(Exception):
    """Base of every named failure.

    `str(error)` is one sentence for the user; `hint` is the next step, empty when there is none.
    """

    kind: ErrorKind
    hint: str

    def __init__(self, message: str, *, kind: ErrorKind, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed if it is sent again unchanged."""
        return self.kind in RETRYABLE


class ConfigError(OllmError):
    """A setting, an alias or a provider name that the user can mend."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, kind=ErrorKind.CONFIG, hint=hint)


class InvalidRequestError(OllmError):
    """The request itself cannot be answered, wherever it is sent."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, kind=ErrorKind.INVALID, hint=hint)


class UnsupportedError(OllmError):
    """Known in advance not to work here, so nothing was sent."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, kind=ErrorKind.UNSUPPORTED, hint=hint)


class ProviderError(OllmError):
    """The upstream failed. Providers raise it without knowing the name they were registered under;
    the generation fills in `provider` and `model` on the way up.

    Attributes:
        status: HTTP status of the answer, when there was one.
        retry_after: Seconds the upstream asked us to wait, when it did.
        loading: The upstream says that its model is still being loaded.
        unanswered: The connection closed without a single byte of an answer.
        provider: Name of the provider, filled in by the generation.
        model: Model that was asked for, filled in by the generation.
        partial_text: Text that had arrived before the failure.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        hint: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        loading: bool = False,
        unanswered: bool = False,
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.status = status
        self.retry_after = retry_after
        self.loading = loading
        self.unanswered = unanswered
        self.provider: str | None = None
        self.model: str | None = None
        self.partial_text = ""


class UnreachableError(ProviderError):
    """No connection could be made, or it closed before it answered."""


class TimeoutPassedError(ProviderError):
    """One phase of the exchange took longer than its limit."""


class RefusedError(ProviderError):
    """The upstream understood and said no, with a status or inside a stream."""


class BrokenAnswerError(ProviderError):
    """The answer breaks the promise of its protocol."""
