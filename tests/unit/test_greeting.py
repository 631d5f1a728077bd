"""The quick answer to `initialize` is the answer, and pygls agrees with what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ollm_daemon.server.framing import FrameDecoder, encode_frame
from ollm_daemon.server.greeting import greet, initialize_result
from ollm_daemon.server.lsp import LspState, make_converter

CONVERTER = make_converter()
CLIENTS: list[dict[str, Any]] = [
    {"processId": None, "rootUri": None, "capabilities": {}},
    {
        "processId": None,
        "rootUri": None,
        "capabilities": {"general": {"positionEncodings": ["utf-8", "utf-16"]}},
    },
    {"processId": None, "rootUri": None, "capabilities": {"general": {"positionEncodings": ["utf-32"]}}},
    {"processId": None, "rootUri": None, "capabilities": {"general": {"positionEncodings": []}}},
    {"processId": 1, "rootUri": "file:///x", "capabilities": {"workspace": {"workspaceFolders": True}}},
]


@pytest.mark.parametrize("params", CLIENTS, ids=range(len(CLIENTS)))
def test_pygls_promises_the_same(params: dict[str, Any]) -> None:
    ours = initialize_result(params)["capabilities"]
    theirs = LspState(CONVERTER, params).capabilities
    for key in ("positionEncoding", "textDocumentSync"):
        assert ours[key] == theirs[key]
    assert ours["workspace"]["workspaceFolders"] == theirs["workspace"]["workspaceFolders"]


def ask(*pieces: bytes) -> tuple[Any, list[Any]]:
    """What `greet` gives for these bytes followed by the end of input, and what it answered."""
    (there_read, there_write), (back_read, back_write) = os.pipe(), os.pipe()
    os.write(there_write, b"".join(pieces))
    os.close(there_write)
    with (
        os.fdopen(there_read, "rb", buffering=0) as frames_in,
        os.fdopen(back_write, "wb", buffering=0) as out,
    ):
        greeting = greet(frames_in, out)
    decoder = FrameDecoder()
    with os.fdopen(back_read, "rb") as answers:
        decoder.add(answers.read())
    bodies = []
    while (body := decoder.take()) is not None:
        bodies.append(json.loads(body))
    return greeting, bodies


def message(**fields: Any) -> bytes:
    return encode_frame(json.dumps({"jsonrpc": "2.0", **fields}).encode())


INITIALIZE = message(id=1, method="initialize", params=CLIENTS[0])


def test_initialize_is_answered_and_the_rest_kept() -> None:
    rest = message(method="initialized", params={}) + b"Content-Len"
    greeting, [answer] = ask(INITIALIZE + rest)
    assert answer == {"jsonrpc": "2.0", "id": 1, "result": initialize_result(CLIENTS[0])}
    assert greeting == (CLIENTS[0], rest)


ODD = {
    "another method": message(id=1, method="ollm/status", params={}),
    "a notification": message(method="initialize", params={}),
    "no params": message(id=1, method="initialize"),
    "params that are a list": message(id=1, method="initialize", params=[]),
    "an id that is true": message(id=True, method="initialize", params={}),
    "an id that is null": message(id=None, method="initialize", params={}),
    "another version": encode_frame(b'{"jsonrpc":"1.0","id":1,"method":"initialize","params":{}}'),
    "more than it should hold": message(id=1, method="initialize", params={}, result=1),
    "not JSON": encode_frame(b"{"),
    "not a frame": b"GET / HTTP/1.1\r\n\r\n",
    "half a frame": INITIALIZE[:-1],
    "nothing": b"",
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_left_to_the_connection(name: str) -> None:
    greeting, answers = ask(ODD[name])
    assert (greeting, answers) == ((None, ODD[name]), [])


def test_it_comes_before_every_heavy_import() -> None:
    code = (
        "import sys; from ollm_daemon.server import greeting; from ollm_daemon import cli\n"
        "heavy = {'asyncio', 'pydantic', 'anyio', 'httpx', 'pygls', 'argparse', 'logging', 'dataclasses'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_documents_alone_bring_in_pygls() -> None:
    code = "import sys, ollm_daemon.daemon; print(sorted({'pygls', 'lsprotocol'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
