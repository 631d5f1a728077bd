"""Who is upstream, and what to say when an exchange with it fails: named errors without our secrets."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import quote

import httpx

from ollm_daemon.domain import ProviderSettings
from ollm_daemon.errors import (
    BrokenAnswerError,
    ErrorKind,
    ProviderError,
    TimeoutPassedError,
    UnreachableError,
)
from ollm_daemon.providers._clock import Watch
from ollm_daemon.providers._failures import clean_text
from ollm_daemon.providers._hints import hint_for
from ollm_daemon.providers.facts import Backend

SHOWN_CHARACTERS = 600
"""Of an error's sentence, however much the server said."""
_SHORTEST_SECRET = 4
"""A shorter key is not redacted by value: it would blot out ordinary text."""


class Upstream:
    """One server: its settings, its address, and what it is, as far as that is known by now."""

    def __init__(self, settings: ProviderSettings, backend: Backend) -> None:
        self.settings = settings
        self.backend = backend
        self.base_url = settings.base_url

    @property
    def who(self) -> str:
        """Its name and address, at the beginning of a sentence."""
        return f"{self.backend.title_first} at {self.base_url}"

    def hint(self, kind: ErrorKind) -> str:
        """What to do about a failure of this kind."""
        return hint_for(kind, self.settings, self.backend, self.base_url)

    @contextlib.contextmanager
    def mapped(self, watch: Watch) -> Iterator[None]:
        """Turn what httpx raises into named errors."""
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise TimeoutPassedError(
                f"{self.who} did not accept a connection in time.",
                kind=ErrorKind.TIMEOUT_CONNECT,
                hint=self.hint(ErrorKind.UNREACHABLE),
            ) from error
        except httpx.ProxyError as error:
            raise UnreachableError(
                f"The proxy in front of {self.who} failed: {clean_text(str(error))}",
                kind=ErrorKind.PROXY,
                hint="Check the `proxy` setting.",
            ) from error
        except httpx.ConnectError as error:
            raise self._connect_failure(error) from error
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise self._broken_exchange(error, watch) from error
        except httpx.HTTPError as error:
            raise BrokenAnswerError(
                f"The exchange with {self.who} failed: {clean_text(str(error))}",
                kind=ErrorKind.PROTOCOL,
            ) from error

    def _connect_failure(self, error: httpx.ConnectError) -> UnreachableError:
        cause = _root_cause(error)
        if isinstance(cause, socket.gaierror | UnicodeError):
            kind, why = ErrorKind.DNS, "its host name cannot be found"
        elif isinstance(cause, ssl.SSLCertVerificationError):
            kind, why = ErrorKind.TLS, f"its certificate is not accepted ({cause.verify_message})"
        elif isinstance(cause, ssl.SSLError | ConnectionResetError) and self.base_url.scheme == "https":
            kind, why = ErrorKind.TLS, "TLS failed"
        elif isinstance(cause, ConnectionRefusedError) or "refused" in str(error).lower():
            kind, why = ErrorKind.UNREACHABLE, "nothing is listening there"
        else:
            kind, why = ErrorKind.UNREACHABLE, clean_text(str(error)) or "no connection"
        return UnreachableError(
            f"Cannot connect to {self.who_inside}: {why}.", kind=kind, hint=self.hint(kind)
        )

    @property
    def who_inside(self) -> str:
        """The same inside a sentence."""
        return f"{self.backend.title} at {self.base_url}"

    def _broken_exchange(self, error: httpx.HTTPError, watch: Watch) -> ProviderError:
        if watch.first_byte_seen:
            return BrokenAnswerError(
                f"{self.who} cut its answer short: {clean_text(str(error)) or 'connection lost'}.",
                kind=ErrorKind.STREAM_TRUNCATED,
                hint="The server may have crashed; see its log.",
            )
        if "not a valid HTTP answer" in str(error) or "headers of more" in str(error):
            return BrokenAnswerError(
                f"{self.who} did not answer in HTTP: {clean_text(str(error))}.",
                kind=ErrorKind.PROTOCOL,
                hint=self.hint(ErrorKind.PROTOCOL),
            )
        cause = _root_cause(error)
        if isinstance(cause, ssl.SSLError):
            # With TLS 1.3 a server looks at the client's certificate after the connection stands.
            return UnreachableError(
                f"{self.who} ended TLS: {str(cause.reason).replace('_', ' ').lower()}.",
                kind=ErrorKind.TLS,
                hint=f"If it wants a certificate, name one in `providers.{self.settings.name}.clientCert`.",
            )
        return UnreachableError(
            f"{self.who} closed the connection before it answered.",
            kind=ErrorKind.UNREACHABLE,
            hint="The server may have crashed; see its log.",
            unanswered=True,
        )

    def presentable(self, error: ProviderError) -> ProviderError:
        """The error without any key of ours that the server echoed, in any spelling, and of a length that
        a person reads. Cut last, so that no half of a key is left.
        """
        message = str(error)
        for spelling in self._secret_spellings():
            message = message.replace(spelling, "***")
        if len(message) > SHOWN_CHARACTERS:
            message = message[:SHOWN_CHARACTERS] + "…"
        error.args = (message,)
        return error

    def _secret_spellings(self) -> Iterator[str]:
        credentials = self.settings.credentials
        if credentials is None:
            return
        secrets = [value.get_secret_value() for _, value in credentials.headers]
        if credentials.api_key:
            secrets.append(credentials.api_key.get_secret_value())
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                yield secret
                yield json.dumps(secret)[1:-1]
                yield quote(secret, safe="")
                yield base64.b64encode(secret.encode()).decode()


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, ExceptionGroup):
        return _root_cause(error.exceptions[0])
    return error
