"""The only door to an upstream: one client per provider, and the only user of httpx.

Owns what every exchange needs whatever the server: which credentials may leave, how long each phase
may take, how large an answer may be, and which named error a failure becomes. Redirects are never
followed, cookies never kept, the environment never read, nothing the server names is ever fetched.

Invariant: leaving `open_stream` closes the answer; if it had not ended, the socket is closed with it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

import httpx
from pydantic_core import to_json

from ollm_daemon.domain import Credentials, ProviderSettings, Timeouts
from ollm_daemon.errors import (
    BrokenAnswerError,
    ErrorKind,
    ProviderError,
    RefusedError,
    TimeoutPassedError,
    UnreachableError,
)
from ollm_daemon.providers._clock import Watch
from ollm_daemon.providers._failures import classify, clean_text, find_failure, read_failure
from ollm_daemon.providers._hints import hint_for
from ollm_daemon.providers._json import decode_json
from ollm_daemon.providers._tls import make_ssl_context
from ollm_daemon.providers._transport import StreamTransport
from ollm_daemon.providers.backends import Backend
from ollm_daemon.urls import BaseUrl

MAX_ERROR_BODY = 64 << 10
MAX_BODY = 32 << 20
MAX_STREAM = 256 << 20
"""Bytes of one streamed answer on the wire; 64 MiB of text in chunks of JSON."""
SHOWN_CHARACTERS = 600
"""Of an error's sentence, however much the server said."""
MAX_RETRY_AFTER = 86_400.0
QUICK = Timeouts(connect=5, first_token=30, idle=30, stall=30, total=60)
"""Limits for requests that ask a server about itself."""
_SHORTEST_SECRET = 4
"""A shorter key is not redacted by value: it would blot out ordinary text."""


class UpstreamStream:
    """One answer that is arriving."""

    def __init__(self, response: httpx.Response, watch: Watch) -> None:
        self.status = response.status_code
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._response = response
        self._watch = watch

    async def read(self, limit: int = MAX_STREAM) -> AsyncIterator[bytes]:
        """The body as it arrives, one piece per socket read.

        Raises:
            BrokenAnswerError: `limit`, when the body grows past `limit` bytes.
        """
        size = 0
        watch = self._watch
        body = cast("httpx.AsyncByteStream", self._response.stream)
        async for data in body:
            watch.bytes_arrived()
            size += len(data)
            if size > limit:
                raise BrokenAnswerError(
                    f"The server sent more than {limit >> 20} MiB, the most one answer may have.",
                    kind=ErrorKind.LIMIT,
                )
            yield data

    async def read_all(self, limit: int = MAX_BODY) -> bytes:
        """The whole body."""
        return b"".join([data async for data in self.read(limit)])

    def content_arrived(self) -> None:
        """Tell the clock that the model, not only the connection, is alive."""
        self._watch.content_arrived()

    def finish(self) -> None:
        """Say that the answer is complete; its closing bytes may arrive after we have left."""
        finish = self._response.extensions.get("finish")
        if finish:
            finish()


class UpstreamClient:
    """HTTP to the one base URL of one provider."""

    def __init__(self, settings: ProviderSettings, backend: Backend) -> None:
        self.settings = settings
        self.base_url = settings.base_url
        self._backend = backend
        self._ssl: ssl.SSLContext | None = None
        self._transport = StreamTransport(self._ssl_context)
        self._urls: dict[str, httpx.URL] = {}

    @property
    def open_connections(self) -> int:
        """Connections that are lent or idle."""
        return self._transport.open_connections

    def moved_to(self, base_url: BaseUrl, credentials: Credentials | None) -> None:
        """Follow a server that picked its own address (the embedded one)."""
        self.base_url = base_url
        self.settings = replace(self.settings, base_url=base_url, credentials=credentials)
        self._urls.clear()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def connect_ahead(self) -> None:
        """Open a connection so that the first request need not; a failure is left to that request."""
        with contextlib.suppress(httpx.HTTPError):
            await self._transport.connect_ahead(httpx.URL(str(self.base_url)), 2.0)

    async def get_json(self, path: str, timeouts: Timeouts = QUICK) -> Any:
        """GET a JSON document.

        Raises:
            ProviderError: As `open_stream`; also for an error reported under status 200.
        """
        async with self.open_stream("GET", path, None, timeouts) as stream:
            body = await stream.read_all()
            stream.finish()
        value = decode_json(body)
        failure = find_failure(value)
        if failure:
            kind, loading = classify(None, failure)
            said = f"{self._who()} answered with an error: {failure.message}"
            raise self._presentable(RefusedError(said, kind=kind, loading=loading))
        return value

    @contextlib.asynccontextmanager
    async def open_stream(
        self, method: str, path: str, payload: Mapping[str, Any] | None, timeouts: Timeouts
    ) -> AsyncIterator[UpstreamStream]:
        """Send one request and lend its answer for the length of the block.

        Raises:
            UnreachableError: No connection, or it closed before it answered.
            TimeoutPassedError: A phase took longer than `timeouts` allows, inside the block too.
            RefusedError: A status of 300 or more.
            BrokenAnswerError: The answer is not HTTP, is compressed or over a limit.
        """
        watch = Watch(timeouts)
        transport = self._transport if self.settings.proxy is None else self._through_proxy()
        response: httpx.Response | None = None
        try:
            with watch.running(), self._mapped(watch):
                try:
                    request = self._request(method, path, payload, timeouts)
                    response = await transport.handle_async_request(request)
                    watch.bytes_arrived()
                    stream = UpstreamStream(response, watch)
                    if response.status_code >= 300:
                        raise await self._refusal(response, stream)
                    self._check_encoding(response)
                    self._check_type(stream)
                    yield stream
                finally:
                    if response is not None:
                        await response.aclose()
                    if transport is not self._transport:
                        await transport.aclose()
        except ProviderError as error:
            raise self._presentable(error) from error.__cause__

    def _request(
        self, method: str, path: str, payload: Mapping[str, Any] | None, timeouts: Timeouts
    ) -> httpx.Request:
        headers = {"Accept-Encoding": "identity", "User-Agent": "ollm-daemon", **self._credentials()}
        content = None
        if payload is not None:
            headers["Content-Type"] = "application/json"
            content = to_json(payload)
        return httpx.Request(
            method,
            self._url(path),
            headers=headers,
            content=content,
            # The phases are watched by `Watch`; only connecting is bounded by the transport itself.
            extensions={"timeout": {"connect": timeouts.connect}},
        )

    def _url(self, path: str) -> httpx.URL:
        """Parsed once for each path; httpx takes as long for it as for the rest of the request."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = httpx.URL(f"{self.base_url.origin}{self.base_url.path}{path}")
        return url

    def _through_proxy(self) -> httpx.AsyncHTTPTransport:
        """Httpx's own transport, one for each request: its pool loses slots when requests are cancelled."""
        try:
            return httpx.AsyncHTTPTransport(
                verify=self._ssl_context(), proxy=self.settings.proxy, trust_env=False
            )
        except (ImportError, ValueError) as error:
            raise UnreachableError(
                f"{self._who()} cannot be reached through its proxy: only http and https proxies are known.",
                kind=ErrorKind.PROXY,
                hint=f"Set `providers.{self.settings.name}.proxy` to an empty text to go directly.",
            ) from error

    def _ssl_context(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = make_ssl_context(self.settings)
        return self._ssl

    def _credentials(self) -> dict[str, str]:
        """Headers that prove who we are, for exactly the origin they were configured for."""
        headers = dict(self.settings.headers)
        credentials = self.settings.credentials
        if credentials is None or credentials.origin != self.base_url.origin:
            return headers
        headers.update((name, value.get_secret_value()) for name, value in credentials.headers)
        if credentials.api_key is not None:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = f"Bearer {credentials.api_key.get_secret_value()}"
        return headers

    def _check_encoding(self, response: httpx.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise BrokenAnswerError(
                f"{self._who()} compressed its answer ({clean_text(encoding)}) although none was asked for.",
                kind=ErrorKind.PROTOCOL,
                hint="Turn compression off in the proxy in front of the server.",
            )

    def _check_type(self, stream: UpstreamStream) -> None:
        if stream.content_type == "text/html":
            raise BrokenAnswerError(
                f"{self._who()} answered with a web page.",
                kind=ErrorKind.BAD_CONTENT_TYPE,
                hint=self._hint(ErrorKind.PROTOCOL),
            )

    async def _refusal(self, response: httpx.Response, stream: UpstreamStream) -> ProviderError:
        """The named error for a status of 300 or more."""
        status = response.status_code
        body = bytearray()
        if "content-encoding" not in response.headers:
            async for data in stream.read():
                body += data[: MAX_ERROR_BODY - len(body)]
                if len(body) >= MAX_ERROR_BODY:
                    break
            else:
                stream.finish()
        failure = read_failure(bytes(body))
        kind, loading = classify(status, failure)
        said = f": {failure.message}" if failure.message else ""
        if kind is ErrorKind.REDIRECT:
            said = f", a redirect to {_origin_shown(response.headers.get('location', ''))}"
        return RefusedError(
            f"{self._who()} answered {status}{said}",
            kind=kind,
            hint=self._hint(kind),
            status=status,
            retry_after=_retry_after(response.headers.get("retry-after")),
            loading=loading,
        )

    def _who(self) -> str:
        return f"{self._backend.title_first} at {self.base_url}"

    def _hint(self, kind: ErrorKind) -> str:
        return hint_for(kind, self.settings, self._backend, self.base_url)

    @contextlib.contextmanager
    def _mapped(self, watch: Watch) -> Iterator[None]:
        """Turn what httpx raises into named errors."""
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise TimeoutPassedError(
                f"{self._who()} did not accept a connection in time.",
                kind=ErrorKind.TIMEOUT_CONNECT,
                hint=self._hint(ErrorKind.UNREACHABLE),
            ) from error
        except httpx.ProxyError as error:
            raise UnreachableError(
                f"The proxy in front of {self._who()} failed: {clean_text(str(error))}",
                kind=ErrorKind.PROXY,
                hint="Check the `proxy` setting.",
            ) from error
        except httpx.ConnectError as error:
            raise self._connect_failure(error) from error
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise self._broken_exchange(error, watch) from error
        except httpx.HTTPError as error:
            raise BrokenAnswerError(
                f"The exchange with {self._who()} failed: {clean_text(str(error))}",
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
            f"Cannot connect to {self._who_lower()}: {why}.", kind=kind, hint=self._hint(kind)
        )

    def _who_lower(self) -> str:
        return f"{self._backend.title} at {self.base_url}"

    def _broken_exchange(self, error: httpx.HTTPError, watch: Watch) -> ProviderError:
        if watch.first_byte_seen:
            return BrokenAnswerError(
                f"{self._who()} cut its answer short: {clean_text(str(error)) or 'connection lost'}.",
                kind=ErrorKind.STREAM_TRUNCATED,
                hint="The server may have crashed; see its log.",
            )
        if "not a valid HTTP answer" in str(error) or "headers of more" in str(error):
            return BrokenAnswerError(
                f"{self._who()} did not answer in HTTP: {clean_text(str(error))}.",
                kind=ErrorKind.PROTOCOL,
                hint=self._hint(ErrorKind.PROTOCOL),
            )
        cause = _root_cause(error)
        if isinstance(cause, ssl.SSLError):
            # With TLS 1.3 a server looks at the client's certificate after the connection stands.
            return UnreachableError(
                f"{self._who()} ended TLS: {str(cause.reason).replace('_', ' ').lower()}.",
                kind=ErrorKind.TLS,
                hint=f"If it wants a certificate, name one in `providers.{self.settings.name}.clientCert`.",
            )
        return UnreachableError(
            f"{self._who()} closed the connection before it answered.",
            kind=ErrorKind.UNREACHABLE,
            hint="The server may have crashed; see its log.",
        )

    def _presentable(self, error: ProviderError) -> ProviderError:
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


def _origin_shown(location: str) -> str:
    try:
        url = httpx.URL(location)
    except httpx.InvalidURL:
        return "somewhere unreadable"
    return clean_text(f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}") if url.host else "itself"


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header; a date is not worth a clock comparison and counts as absent."""
    text = (value or "").strip()
    if not 1 <= len(text) <= 8 or not (text.isascii() and text.isdigit()):
        return None
    return min(float(text), MAX_RETRY_AFTER)
