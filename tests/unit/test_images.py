"""Images by URI: only what is one is read."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from ollm_daemon.errors import InvalidRequestError
from ollm_daemon.protocol import chat
from ollm_daemon.server import images
from ollm_daemon.server.images import load_image, load_images

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
BEGINNINGS = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0JFIF",
    "image/gif": b"GIF89a....",
    "image/webp": b"RIFF\x08\0\0\0WEBPVP8 ",
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_kinds_of_images_from_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a picture"
    path.write_bytes(BEGINNINGS[kind])
    for uri in (str(path), path.as_uri()):
        image = load_image(uri)
        assert image.media_type == kind
        assert image.data == base64.b64encode(BEGINNINGS[kind]).decode()


def test_a_data_uri() -> None:
    image = load_image(f"data:image/x-wrong;base64,{base64.b64encode(PNG).decode()}")
    assert (image.media_type, base64.b64decode(image.data or "")) == ("image/png", PNG)


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("/no/such/file.png", "There is no image file"),
        ("/", "There is no image file"),
        ("/etc/passwd", "is not an image"),
        ("http://127.0.0.1:1/a.png", "is not fetched"),
        ("ftp://h/a.png", "is not fetched"),
        ("data:image/png,abc", "begins with data:image"),
        ("data:text/html;base64,QUJD", "begins with data:image"),
        ("data:image/png;base64,!!!", "something else than base64"),
        (f"data:image/png;base64,{base64.b64encode(b'hello').decode()}", "is not an image"),
    ],
)
def test_what_is_refused(uri: str, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        load_image(uri)


def test_a_large_file_and_a_pipe_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 4)
    (tmp_path / "large.png").write_bytes(PNG)
    with pytest.raises(InvalidRequestError, match="larger than"):
        load_image(str(tmp_path / "large.png"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InvalidRequestError, match="There is no image file"):
        load_image(str(tmp_path / "pipe.png"))


@pytest.mark.anyio
async def test_params_without_uris_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    plain = chat.ChatParams.model_validate({"messages": [{"role": "user", "content": "x"}]})
    assert await load_images(plain) is plain
    content = [{"type": "text", "text": "What?"}, {"type": "image", "uri": str(path)}]
    params = chat.ChatParams.model_validate({"messages": [{"role": "user", "content": content}]})
    [message] = (await load_images(params)).messages
    assert not isinstance(message.content, str)
    text, image = message.content
    assert text == chat.TextContent(type="text", text="What?")
    assert isinstance(image, chat.ImageContent)
    assert (image.uri, image.media_type) == (None, "image/png")
