"""The next step for each kind of failure: one sentence for the user, with their own names in it. Pure."""

from __future__ import annotations

from ollm_daemon.domain import ProviderSettings
from ollm_daemon.errors import ErrorKind
from ollm_daemon.providers.facts import Backend
from ollm_daemon.urls import BaseUrl


def hint_for(kind: ErrorKind, settings: ProviderSettings, backend: Backend, base_url: BaseUrl) -> str:
    """What to do about a failure of `kind`; empty when there is nothing to say."""
    address = f"`providers.{settings.name}.baseUrl`"
    if kind in (ErrorKind.AUTH, ErrorKind.FORBIDDEN):
        return _about_the_key(settings, base_url)
    return {
        ErrorKind.UNREACHABLE: f"Is the server running? {backend.start}".rstrip(),
        ErrorKind.DNS: f"Check the host name in {address}.",
        ErrorKind.PROTOCOL: f"Check {address}: is another program listening there?",
        ErrorKind.REDIRECT: f"Redirects are not followed; put the final address in {address}.",
        ErrorKind.NOT_FOUND: backend.get_model,
        ErrorKind.CONTEXT_LENGTH: f"Shorten the prompt. {backend.widen.format(provider=settings.name)}",
        ErrorKind.TLS: f"Check the scheme in {address}, or name the certificate authority in `caFile`.",
        ErrorKind.RATE_LIMITED: "Wait a moment and try again.",
        ErrorKind.OVERLOADED: "The server is busy; try again.",
    }.get(kind, "")


def _about_the_key(settings: ProviderSettings, base_url: BaseUrl) -> str:
    place = f"`providers.{settings.name}.apiKey` in the user configuration"
    place += f" or {settings.key_variable}" if settings.key_variable else ""
    credentials = settings.credentials
    if credentials is None or not credentials.in_headers:
        return f"The server wants a key: set {place}."
    if credentials.origin == base_url.origin:
        return f"Correct the key in {place}."
    return (
        f"The configured key belongs to {credentials.origin} and was not sent here; "
        f"give one for this address with --api-key-file or {place}."
    )
