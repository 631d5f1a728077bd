"""Exit codes of `ollm`, as in `sysexits.h`, and the error that carries one; `cli` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping

OK, USAGE, DATA, UNAVAILABLE, SOFTWARE, IO_ERROR, PROTOCOL, NO_PERMISSION, CONFIG, INTERRUPTED = (
    0,
    2,
    65,
    69,
    70,
    74,
    76,
    77,
    78,
    130,
)
EXIT_CODES: Mapping[str, int] = {
    "config": CONFIG,
    "unsupported": DATA,
    "invalid": DATA,
    "too_large": DATA,
    "context_length": DATA,
    "not_found": CONFIG,
    "auth": NO_PERMISSION,
    "forbidden": NO_PERMISSION,
    "unreachable": UNAVAILABLE,
    "dns": UNAVAILABLE,
    "tls": UNAVAILABLE,
    "proxy": UNAVAILABLE,
    "timeout_connect": UNAVAILABLE,
    "timeout_first_token": UNAVAILABLE,
    "timeout_idle": UNAVAILABLE,
    "timeout_total": UNAVAILABLE,
    "rate_limited": UNAVAILABLE,
    "overloaded": UNAVAILABLE,
    "backend": UNAVAILABLE,
    "redirect": PROTOCOL,
    "protocol": PROTOCOL,
    "bad_content_type": PROTOCOL,
    "stream_truncated": PROTOCOL,
    "limit": PROTOCOL,
    "internal": SOFTWARE,
}


class UsageError(Exception):
    """What the user asked for cannot be done; the exit code says which way."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code
