"""Images that a client names by URI: read, checked to be one, and put in as data.

Only what begins like an image is taken, so that a request cannot make the daemon send another file to a
model server.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import anyio
import anyio.to_thread

from ollm_daemon.errors import InvalidRequestError
from ollm_daemon.protocol import chat

MAX_BYTES = 20 << 20
_DATA_URI = re.compile(r"data:(image/[a-z0-9.+-]+)?(;base64)?,", re.IGNORECASE)
_BEGINNINGS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)
_HINT = "Give a PNG, JPEG, GIF or WebP file of at most 20 MiB."


async def load_images(params: chat.ChatParams) -> chat.ChatParams:
    """The same params with every image as data.

    Raises:
        InvalidRequestError: A URI leads to no image.
    """
    if not any(_uris(message) for message in params.messages):
        return params
    messages = [await _load_message(message) for message in params.messages]
    return params.model_copy(update={"messages": messages})


def _uris(message: chat.Message) -> list[str]:
    parts = () if isinstance(message.content, str) else message.content
    return [part.uri for part in parts if isinstance(part, chat.ImageContent) and part.uri is not None]


async def _load_message(message: chat.Message) -> chat.Message:
    if not _uris(message):
        return message
    parts = [
        await anyio.to_thread.run_sync(load_image, part.uri)
        if isinstance(part, chat.ImageContent) and part.uri is not None
        else part
        for part in message.content
        if not isinstance(part, str)
    ]
    return message.model_copy(update={"content": parts})


def load_image(uri: str) -> chat.ImageContent:
    """The image at a `data:` URI, a `file:` URI or a path.

    Raises:
        InvalidRequestError: There is none.
    """
    data = _from_data_uri(uri) if uri[:5].lower() == "data:" else _from_file(uri)
    kind = next((kind for beginning, kind in _BEGINNINGS if beginning.match(data)), None)
    if kind is None:
        raise InvalidRequestError(f"{_shown(uri)} is not an image that models take.", hint=_HINT)
    return chat.ImageContent(type="image", data=base64.b64encode(data).decode(), media_type=kind)


def _from_data_uri(uri: str) -> bytes:
    match = _DATA_URI.match(uri)
    if match is None or not match[2]:
        raise InvalidRequestError("An image's data URI begins with data:image/…;base64,.", hint=_HINT)
    try:
        return base64.b64decode(unquote(uri[match.end() :]), validate=True)
    except binascii.Error:
        raise InvalidRequestError(
            "An image's data URI holds something else than base64.", hint=_HINT
        ) from None


def _from_file(uri: str) -> bytes:
    parts = urlsplit(uri)
    if len(parts.scheme) > 1 and parts.scheme != "file":
        raise InvalidRequestError(
            f"{_shown(uri)} is not fetched: the daemon reads images from files only.", hint=_HINT
        )
    path = Path(url2pathname(parts.path) if parts.scheme == "file" else uri).expanduser()
    try:
        if not path.is_file():
            raise InvalidRequestError(f"There is no image file {_shown(str(path))}.", hint="Check the path.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidRequestError(
            f"The image {_shown(str(path))} cannot be read: {reason}.", hint=_HINT
        ) from error
    if len(data) > MAX_BYTES:
        raise InvalidRequestError(f"The image {_shown(str(path))} is larger than 20 MiB.", hint=_HINT)
    return data


def _shown(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:120]}…"
