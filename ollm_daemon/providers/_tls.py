"""Whom a provider's TLS trusts. A context takes 20 ms to build, so each provider keeps its own."""

from __future__ import annotations

import ssl
from pathlib import Path

from ollm_daemon.domain import ProviderSettings
from ollm_daemon.errors import ErrorKind, UnreachableError


def make_ssl_context(settings: ProviderSettings) -> ssl.SSLContext:
    """The context for one provider.

    Raises:
        UnreachableError: `tls`, when the file of its certificate authority cannot be used.
    """
    ca_file = settings.ca_file
    try:
        context = ssl.create_default_context(cafile=Path(ca_file).expanduser() if ca_file else None)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnreachableError(
            f"The certificate authority file of {settings.name} cannot be used.",
            kind=ErrorKind.TLS,
            hint=f"Set `providers.{settings.name}.caFile` to a PEM file.",
        ) from error
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
