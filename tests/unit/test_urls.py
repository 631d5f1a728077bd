"""Addresses: what is refused, what an origin is, and how `OLLAMA_HOST` is read."""

from __future__ import annotations

import pytest

from ollm_daemon.urls import parse_base_url, parse_host_variable

# text → as a person writes it, origin
ACCEPTED: dict[str, tuple[str, str]] = {
    "http://h": ("http://h", "http://h:80"),
    "https://h": ("https://h", "https://h:443"),
    "http://h/": ("http://h", "http://h:80"),
    "http://h//": ("http://h", "http://h:80"),
    "http://h:80": ("http://h", "http://h:80"),
    "http://h:443": ("http://h:443", "http://h:443"),
    "https://h:80": ("https://h:80", "https://h:80"),
    "http://h:65535": ("http://h:65535", "http://h:65535"),
    "http://h:08080": ("http://h:8080", "http://h:8080"),
    "HTTP://Host.Example:80": ("http://host.example", "http://host.example:80"),
    "http://h/v1": ("http://h", "http://h:80"),
    "http://h/v1/": ("http://h", "http://h:80"),
    "http://h/a/v1": ("http://h/a", "http://h:80"),
    "http://h/a/b/": ("http://h/a/b", "http://h:80"),
    "http://h/v1beta": ("http://h/v1beta", "http://h:80"),
    "http://h/av1": ("http://h/av1", "http://h:80"),
    "http://my_host": ("http://my_host", "http://my_host:80"),
    "http://xn--bcher-kva.example": ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example:80"),
    "http://1.2.3.4:5": ("http://1.2.3.4:5", "http://1.2.3.4:5"),
    "http://[::1]": ("http://[::1]", "http://[::1]:80"),
    "http://[::1]:5/a": ("http://[::1]:5/a", "http://[::1]:5"),
    "http://[FE80::1]": ("http://[fe80::1]", "http://[fe80::1]:80"),
}

REFUSED: dict[str, str] = {
    "empty": "",
    "no scheme": "h",
    "no scheme, port": "h:80",
    "no scheme, slashes": "//h",
    "another scheme": "ftp://h",
    "a file": "file:///etc/passwd",
    "a script": "javascript:alert(1)",
    "no host": "http://",
    "no host, path": "http:///h",
    "one slash": "http:/h",
    "no host, port": "http://:80",
    "user": "http://user@h",
    "user and password": "http://user:secret@h",
    "user that looks like a host": "http://h:80@evil",
    "at sign in the path": "http://h/@evil",
    "query": "http://h?x=1",
    "empty query": "http://h?",
    "fragment": "http://h#x",
    "backslash in the host": "http://h\\@evil",
    "backslashes for slashes": "http:\\\\h",
    "backslash in the path": "http://h/a\\b",
    "space": "http://h/a b",
    "leading space": " http://h",
    "trailing line end": "http://h\n",
    "tab in the host": "http://h\tx",
    "CRLF": "http://h/\r\nX-Evil: 1",
    "NUL": "http://h\0",
    "DEL": "http://h\x7f",
    "port 0": "http://h:0",
    "port 65536": "http://h:65536",
    "negative port": "http://h:-1",
    "port with a plus": "http://h:+80",
    "port of letters": "http://h:http",
    "port of wide digits": "http://h:\uff18\uff10",
    "empty port": "http://h:",
    "two ports": "http://h:80:90",
    "host of wide letters": "http://\uff4cocalhost",
    "host of other letters": "http://b\u00fccher.example",
    "escaped host": "http://h%41",
    "two dots": "http://a..b",
    "dash first": "http://-a",
    "dash last": "http://a-",
    "semicolon": "http://h;x",
    "comma": "http://h,x",
    "path upwards": "http://h/../x",
    "path here": "http://h/./x",
    "path upwards last": "http://h/a/..",
    "one number": "http://2130706433",
    "hexadecimal number": "http://0x7f000001",
    "octal part": "http://0177.0.0.1",
    "hexadecimal first part": "http://0x7f.0.0.1",
    "hexadecimal last part": "http://169.254.169.0xfe",
    "hexadecimal last part, 3 parts": "http://127.0.0x1",
    "two parts": "http://127.1",
    "five parts": "http://1.2.3.4.5",
    "a part over 255": "http://1.2.3.256",
    "IPv6 without brackets": "http://::1",
    "IPv6 without its end": "http://[::1",
    "IPv6 and more": "http://[::1]evil",
    "IPv6 and a bad port": "http://[::1]:x",
    "IPv6 that is none": "http://[::g]",
    "brackets around IPv4": "http://[1.2.3.4]",
    "brackets around a future address": "http://[v1.x]",
}

# text → as a person writes it
HOST_VARIABLES: dict[str, str] = {
    "1.2.3.4": "http://1.2.3.4:11434",
    "1.2.3.4:99": "http://1.2.3.4:99",
    "host.example": "http://host.example:11434",
    "host.example:99": "http://host.example:99",
    "host.example/ollama": "http://host.example:11434/ollama",
    "host.example:99/ollama/": "http://host.example:99/ollama",
    "localhost:11434/": "http://localhost:11434",
    ":99": "http://127.0.0.1:99",
    "http://1.2.3.4": "http://1.2.3.4",
    "http://1.2.3.4:99": "http://1.2.3.4:99",
    "http://:99": "http://127.0.0.1:99",
    "https://host.example": "https://host.example",
    "https://host.example:99": "https://host.example:99",
    "https://host.example/ollama": "https://host.example/ollama",
    "https://host.example/ollama/v1": "https://host.example/ollama",
    "0.0.0.0": "http://127.0.0.1:11434",
    "0.0.0.0:99": "http://127.0.0.1:99",
    "http://0.0.0.0:99": "http://127.0.0.1:99",
    "[::]": "http://[::1]:11434",
    "[::]:99": "http://[::1]:99",
    "::": "http://[::1]:11434",
    "[::1]": "http://[::1]:11434",
    "[::1]:99": "http://[::1]:99",
    "::1": "http://[::1]:11434",
    "fe80::1": "http://[fe80::1]:11434",
    "http://[::1]": "http://[::1]",
    "  1.2.3.4\n": "http://1.2.3.4:11434",
    '"1.2.3.4"': "http://1.2.3.4:11434",
    "'1.2.3.4:99'": "http://1.2.3.4:99",
    ' " 1.2.3.4 " ': "http://1.2.3.4:11434",
}

REFUSED_HOST_VARIABLES = [
    "ftp://h",
    "user@h",
    "http://u:p@h",
    ":0",
    ":66000",
    ":-1",
    "a b",
    "h?x",
    "[::g]",
    "::g",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text: str) -> None:
    shown, origin = ACCEPTED[text]
    url = parse_base_url(text)
    assert (str(url), url.origin) == (shown, origin)
    assert parse_base_url(str(url)) == url


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+") as caught:
        parse_base_url(REFUSED[name])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", HOST_VARIABLES)
def test_host_variable(text: str) -> None:
    assert str(parse_host_variable(text, default_port=11434)) == HOST_VARIABLES[text]


@pytest.mark.parametrize("text", REFUSED_HOST_VARIABLES)
def test_host_variable_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse_host_variable(text, default_port=11434)


def test_the_default_port_is_the_callers() -> None:
    assert parse_host_variable("h", default_port=8000).port == 8000


@pytest.mark.parametrize(
    "same",
    [
        ("http://h", "http://h:80"),
        ("https://h", "https://h:443"),
        ("http://h/a", "http://h/b"),
        ("http://H", "http://h"),
        ("http://[::1]", "http://[0:0:0:0:0:0:0:1]"),
        ("http://[::1]", "http://[::0001]"),
    ],
)
def test_one_origin_however_written(same: tuple[str, str]) -> None:
    left, right = map(parse_base_url, same)
    assert left.origin == right.origin


@pytest.mark.parametrize(
    "different",
    [
        ("http://h", "https://h"),
        ("http://h", "http://h:8080"),
        ("http://h:443", "https://h"),
        ("http://h", "http://h.evil"),
        ("http://h", "http://hh"),
        ("http://127.0.0.1", "http://localhost"),
        ("http://127.0.0.1", "http://[::1]"),
    ],
)
def test_another_origin(different: tuple[str, str]) -> None:
    left, right = map(parse_base_url, different)
    assert left.origin != right.origin


@pytest.mark.parametrize(
    ("host", "is_loopback", "is_link_local"),
    [
        ("localhost", True, False),
        ("LOCALHOST", True, False),
        ("127.0.0.1", True, False),
        ("127.9.9.9", True, False),
        ("[::1]", True, False),
        ("[::ffff:127.0.0.1]", True, False),
        ("169.254.169.254", False, True),
        ("[fe80::1]", False, True),
        ("[::ffff:169.254.169.254]", False, True),
        ("localhost.evil", False, False),
        ("127.0.0.1.evil", False, False),
        ("evil", False, False),
        ("192.168.0.1", False, False),
        ("0.0.0.0", False, False),
        ("128.0.0.1", False, False),
    ],
)
def test_where_a_host_is(host: str, is_loopback: bool, is_link_local: bool) -> None:
    url = parse_base_url(f"http://{host}")
    assert (url.is_loopback, url.is_link_local) == (is_loopback, is_link_local)
