"""Addresses of upstreams: one parser, one notion of origin.

A base URL is refused when two programs could read it differently (user info, backslashes, white
space, a query), because a key is bound to the origin this module computes. Pure; no name is looked up.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

DEFAULT_PORTS = {"http": 80, "https": 443}
_ODD = re.compile(r"[\x00-\x20\x7f\\@?#]")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_NUMERIC = re.compile(r"(^|\.)(0[xX][0-9a-fA-F]*|[0-9]+)\.?$")
"""A last part that is a number: the whole is an address in the eyes of browsers and of the C library."""
_BIND_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server binds, made dialable


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A parsed base URL. `path` has no trailing slash and no trailing `/v1`."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a key is bound to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine: a loopback address or the name `localhost`."""
        if self.host == "localhost":
            return True
        address = self._address()
        return address is not None and address.is_loopback

    @property
    def is_link_local(self) -> bool:
        """Whether the host is a link-local address, such as a cloud's metadata service."""
        address = self._address()
        return address is not None and address.is_link_local

    def _address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return None
        mapped = getattr(address, "ipv4_mapped", None)
        return mapped or address

    def __str__(self) -> str:
        """The URL as a person writes it: without a default port."""
        origin = self.origin
        if self.port == DEFAULT_PORTS[self.scheme]:
            origin = origin.rpartition(":")[0]
        return origin + self.path


def parse_base_url(text: str) -> BaseUrl:
    """Parse `http://host:port/path`.

    Raises:
        ValueError: With a sentence that says what is wrong with the address.
    """
    if _ODD.search(text):
        raise ValueError(
            "a base URL is scheme, host, port and path only: no user name, query, spaces or backslashes"
        )
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError("a base URL begins with http:// or https://")
    authority, _, path = rest.partition("/")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise ValueError("the host or port of the base URL is not valid")
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise ValueError("the port of a base URL is a number from 1 to 65535")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("the path of a base URL has no . or .. segments")
    path = path.strip("/").removesuffix("v1").rstrip("/") if _ends_in_v1(path) else path.strip("/")
    return BaseUrl(scheme, _normal_host(match["host"]), port, f"/{path}" if path else "")


def _ends_in_v1(path: str) -> bool:
    return path.rstrip("/").rpartition("/")[2] == "v1"


def _normal_host(host: str) -> str:
    """One spelling for each host; what some programs read as a number is refused.

    Raises:
        ValueError: It is no host name and no address.
    """
    host = host.lower()
    try:
        if host.startswith("["):
            return str(ipaddress.IPv6Address(host[1:-1]))
        if _NUMERIC.search(host):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError("the base URL has no valid address") from None
    if not _HOST.fullmatch(host) or ".." in host:
        raise ValueError("the base URL has no valid host name")
    return host


def parse_host_variable(text: str, *, default_port: int) -> BaseUrl:
    """Parse what environment variables such as `OLLAMA_HOST` hold.

    As Ollama reads it (envconfig, v0.33): the scheme is optional; without one the port defaults to
    `default_port`, with `http` or `https` to 80 or 443; an address that binds every interface means
    loopback to a client.

    Raises:
        ValueError: As `parse_base_url`.
    """
    text = text.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    authority, slash, path = rest.partition("/")
    if re.fullmatch(r":\d+", authority):
        authority = "127.0.0.1" + authority
    if authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"
    has_port = re.search(r"(^[^:]*|\]):\d+$", authority)
    if not has_port and not separator:
        authority += f":{default_port}"
    url = parse_base_url(f"{scheme}://{authority}{slash}{path}")
    return BaseUrl(url.scheme, _BIND_ALL.get(url.host, url.host), url.port, url.path)
