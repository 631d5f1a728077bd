"""Whom a provider's TLS trusts, and whom it claims to be. A context takes 20 ms to build, so each provider
keeps its own.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from ollm_daemon.domain import Credentials, ProviderSettings
from ollm_daemon.errors import ErrorKind, UnreachableError


def make_ssl_context(settings: ProviderSettings) -> ssl.SSLContext:
    """The context for one provider. A client certificate is shown to the origin it was configured for.

    Raises:
        UnreachableError: `tls`, when a file it needs cannot be used.
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
    credentials = settings.credentials
    if credentials is not None and credentials.origin == settings.base_url.origin:
        _show_certificate(context, credentials, settings.name)
    return context


def _show_certificate(context: ssl.SSLContext, credentials: Credentials, name: str) -> None:
    if credentials.client_cert is None:
        return
    key_file = credentials.client_key
    try:
        context.load_cert_chain(
            Path(credentials.client_cert).expanduser(),
            Path(key_file).expanduser() if key_file else None,
            # Without it OpenSSL would ask for a passphrase on the terminal.
            password="",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UnreachableError(
            f"The client certificate of {name} cannot be used.",
            kind=ErrorKind.TLS,
            hint=f"Set `providers.{name}.clientCert` to a PEM file, and `clientKey` to its key in a PEM file "
            "without a passphrase.",
        ) from error
