"""The only door to an upstream: one client per provider, and the only user of httpx.

Owns what every exchange needs whatever the server: which credentials may leave, how long each phase
may take, how large an answer may be, and which named error a failure becomes. Redirects are never
followed, cookies never kept, the environment never read, nothing the server names is ever fetched.

Invariant: leaving `open_stream` closes the answer; if it had not ended, the socket is closed with it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx
from pydantic_core import to_json

from ollm_daemon.domain import Credentials, ProviderSettings, Timeouts
from ollm_daemon.errors import (
    BrokenAnswerError,
    ErrorKind,
    ProviderError,
    RefusedError,
    UnreachableError,
)
from ollm_daemon.providers._clock import Watch
from ollm_daemon.providers._failures import classify, clean_text, find_failure, read_failure
from ollm_daemon.providers._json import decode_json
from ollm_daemon.providers._tls import make_ssl_context
from ollm_daemon.providers._transport import StreamTransport
from ollm_daemon.providers._upstream import Upstream
from ollm_daemon.providers.facts import Backend
from ollm_daemon.urls import BaseUrl

MAX_ERROR_BODY = 64 << 10
MAX_LOOK = 256 << 10
MAX_PATHS = 64
"""Paths whose URL is kept parsed; some hold the name of a model or a job."""
MAX_BODY = 32 << 20
MAX_STREAM = 256 << 20
"""Bytes of one streamed answer on the wire; 64 MiB of text in chunks of JSON."""
MAX_RETRY_AFTER = 86_400.0
QUICK = Timeouts(connect=5, first_token=30, idle=30, stall=30, total=60)
"""Limits for requests that ask a server about itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer taken as it is, whatever it says. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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

    async def read_some(self, limit: int) -> bytes:
        """The first `limit` bytes of the body, at most."""
        body = bytearray()
        async for data in self.read():
            body += data[: limit - len(body)]
            if len(body) >= limit:
                return bytes(body)
        self.finish()
        return bytes(body)

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, by their names in lower case."""
        return {name.lower(): value for name, value in self._response.headers.items()}

    def content_arrived(self) -> None:
        """Tell the clock that the model, not only the connection, is alive."""
        self._watch.content_arrived()

    def finish(self) -> None:
        """Say that the answer is complete; its closing bytes may arrive after we have left."""
        finish = self._response.extensions.get("finish")
        if finish:
            finish()


class UpstreamClient(Upstream):
    """HTTP to the one base URL of one provider."""

    def __init__(self, settings: ProviderSettings, backend: Backend) -> None:
        super().__init__(settings, backend)
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
        return self._checked(decode_json(body))

    async def look(self, path: str, timeouts: Timeouts) -> Seen:
        """GET without any credentials and take whatever is answered, up to `MAX_LOOK` bytes.

        Raises:
            ProviderError: There was no answer, or it is not HTTP.
        """
        async with self.open_stream("GET", path, None, timeouts, as_stranger=True) as stream:
            body = await stream.read_some(MAX_LOOK) if "content-encoding" not in stream.headers else b""
            return Seen(stream.status, stream.headers, body)

    async def call(
        self, method: str, path: str, payload: Mapping[str, Any] | None, timeouts: Timeouts = QUICK
    ) -> Any:
        """Send a request and give the JSON of its answer; `None` for an empty one or one of plain text.

        Raises:
            ProviderError: As `open_stream`; also for an error reported under status 200.
        """
        async with self.open_stream(method, path, payload, timeouts) as stream:
            body = await stream.read_all()
            is_json = stream.content_type == "application/json"
            stream.finish()
        if not body.strip() or (not is_json and body.lstrip()[:1] not in (b"{", b"[")):
            return None
        return self._checked(decode_json(body))

    def _checked(self, value: Any) -> Any:
        """A document, unless it reports a failure.

        Raises:
            RefusedError: It does.
        """
        failure = find_failure(value)
        if failure is None:
            return value
        kind, loading = classify(None, failure)
        said = f"{self.who} answered with an error: {failure.message}"
        raise self.presentable(RefusedError(said, kind=kind, loading=loading))

    @contextlib.asynccontextmanager
    async def open_stream(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None,
        timeouts: Timeouts,
        *,
        headers: Mapping[str, str] = {},
        as_stranger: bool = False,
    ) -> AsyncIterator[UpstreamStream]:
        """Send one request and lend its answer for the length of the block.

        Args:
            headers: Sent with this request, beside those of the provider.
            as_stranger: Send no credentials, and lend whatever is answered.

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
            with watch.running(), self.mapped(watch):
                try:
                    own = {} if as_stranger else self._credentials()
                    request = self._request(method, path, payload, timeouts, {**own, **headers})
                    response = await transport.handle_async_request(request)
                    watch.bytes_arrived()
                    stream = UpstreamStream(response, watch)
                    if not as_stranger:
                        await self._check(response, stream)
                    yield stream
                finally:
                    if response is not None:
                        await response.aclose()
                    if transport is not self._transport:
                        await transport.aclose()
        except ProviderError as error:
            raise self.presentable(error) from error.__cause__

    def _request(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None,
        timeouts: Timeouts,
        headers: dict[str, str],
    ) -> httpx.Request:
        headers = {"Accept-Encoding": "identity", "User-Agent": "ollm-daemon", **headers}
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
            # Whatever we ask for may be done twice: a model that wrote in vain, or is loaded already.
            extensions={"timeout": {"connect": timeouts.connect}, "repeatable": True},
        )

    def _url(self, path: str) -> httpx.URL:
        """Parsed once for each path; httpx takes as long for it as for the rest of the request."""
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= MAX_PATHS:
                self._urls.clear()
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
                f"{self.who} cannot be reached through its proxy: only http and https proxies are known.",
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

    async def _check(self, response: httpx.Response, stream: UpstreamStream) -> None:
        """Refuse an answer that is none.

        Raises:
            ProviderError: It is an error, compressed, or a web page.
        """
        if response.status_code >= 300:
            raise await self._refusal(response, stream)
        self._check_encoding(response)
        self._check_type(stream)

    def _check_encoding(self, response: httpx.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise BrokenAnswerError(
                f"{self.who} compressed its answer ({clean_text(encoding)}) although none was asked for.",
                kind=ErrorKind.PROTOCOL,
                hint="Turn compression off in the proxy in front of the server.",
            )

    def _check_type(self, stream: UpstreamStream) -> None:
        if stream.content_type == "text/html":
            raise BrokenAnswerError(
                f"{self.who} answered with a web page.",
                kind=ErrorKind.BAD_CONTENT_TYPE,
                hint=self.hint(ErrorKind.PROTOCOL),
            )

    async def _refusal(self, response: httpx.Response, stream: UpstreamStream) -> ProviderError:
        """The named error for a status of 300 or more."""
        status = response.status_code
        is_plain = "content-encoding" not in response.headers
        failure = read_failure(await stream.read_some(MAX_ERROR_BODY) if is_plain else b"")
        kind, loading = classify(status, failure)
        said = f": {failure.message}" if failure.message else ""
        if kind is ErrorKind.REDIRECT:
            said = f", a redirect to {_origin_shown(response.headers.get('location', ''))}"
        return RefusedError(
            f"{self.who} answered {status}{said}",
            kind=kind,
            hint="Wait until the model is loaded." if loading else self.hint(kind),
            status=status,
            retry_after=_retry_after(response.headers.get("retry-after")),
            loading=loading,
        )


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
