"""The answer to `initialize`, given before anything heavy is imported.

An editor waits for this answer at every start, and it needs nothing but the standard library: what the
daemon can do is the same for every client. On standard streams `greet` reads and answers the first
message by itself; everything else, and everything odd, is left to the connection, which uses the same
`initialize_result`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO, NamedTuple

from ollm_daemon import __version__
from ollm_daemon.protocol import METHOD_NAMES, PROTOCOL_VERSION
from ollm_daemon.server.framing import FrameDecoder, FramingError, encode_frame

POSITION_ENCODINGS = ("utf-8", "utf-16", "utf-32")
INCREMENTAL = 2
ACCEPTED = "ollm.completion.accepted"
"""Command that an editor runs when the user accepted an offer."""


class Greeting(NamedTuple):
    """What `greet` did: the params it answered, or `None`, and the bytes it has not used."""

    params: dict[str, Any] | None
    unread: bytes


def claim_stdio() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for frames alone.

    From here on file descriptor 1, `print` and whatever a library writes to standard output go to
    standard error, and descriptor 0 reads nothing.
    """
    frames_in = os.fdopen(os.dup(0), "rb", buffering=0)
    frames_out = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    sys.stdout = sys.stderr
    return frames_in, frames_out


def greet(frames_in: BinaryIO, frames_out: BinaryIO) -> Greeting:
    """Wait for the first message; answer it if it is an `initialize` without any question about it."""
    decoder = FrameDecoder()
    received = b""
    try:
        while data := os.read(frames_in.fileno(), 1 << 16):
            received += data
            decoder.add(data)
            body = decoder.take()
            if body is None:
                continue
            message = _plain_initialize(body)
            if message is not None:
                result = initialize_result(message["params"])
                response = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                _write(frames_out, encode_frame(json.dumps(response).encode()))
                return Greeting(message["params"], decoder.rest())
            break
    except (FramingError, OSError):
        pass
    return Greeting(None, received)


def initialize_result(params: dict[str, Any]) -> dict[str, Any]:
    """The result of `initialize` for a client that sent `params`."""
    popup: dict[str, Any] = {"completionProvider": {}} if wants_popup(params) else {}
    return {
        "capabilities": {
            "positionEncoding": position_encoding(params),
            "inlineCompletionProvider": {},
            **popup,
            "executeCommandProvider": {"commands": [ACCEPTED]},
            "textDocumentSync": {"openClose": True, "change": INCREMENTAL, "save": False},
            "workspace": {"workspaceFolders": {"supported": True, "changeNotifications": True}},
            "experimental": {"ollm": {"protocolVersion": PROTOCOL_VERSION, "methods": list(METHOD_NAMES)}},
        },
        "serverInfo": {"name": "ollm-daemon", "version": __version__},
    }


def position_encoding(params: dict[str, Any]) -> str:
    """The first of the client's encodings that is known; UTF-16 for a client that names none."""
    offered = look_up(params, "capabilities", "general", "positionEncodings")
    names = offered if isinstance(offered, list) else []
    return next((name for name in names if name in POSITION_ENCODINGS), "utf-16")


def wants_popup(params: dict[str, Any]) -> bool:
    """Whether the client's settings ask for offers in the list of `textDocument/completion`.

    Only what it says at this moment counts: the answer cannot wait for files.
    """
    options = look_up(params, "initializationOptions")
    layers = ("userSettings", "workspaceSettings", "flags")
    return any(look_up(options, layer, "completion", "popup") is True for layer in layers)


def look_up(value: Any, *keys: str) -> Any:
    """A value inside nested objects, or `None` where the path ends early."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _plain_initialize(body: bytes) -> dict[str, Any] | None:
    """The message, if it is one that every reader would take for `initialize`."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.keys() != {"jsonrpc", "id", "method", "params"}:
        return None
    is_initialize = message["jsonrpc"] == "2.0" and message["method"] == "initialize"
    is_plain = type(message["id"]) in (int, str) and isinstance(message["params"], dict)
    return message if is_initialize and is_plain else None


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file.fileno(), view) :]
