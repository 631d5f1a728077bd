"""Candidates that read a stream themselves, each as programs usually do it. One process per candidate.

    python tests/benchmarks/readers.py KIND

Standard input takes one `{"url": ..., "model": ...}` per line and standard output gives one
`{"started": ns, "first": ns, "characters": n}` per stream: when the call began, when the first token (or,
for those that parse nothing, byte) was in the program's hands, and the length of the text, 0 for those
that parse nothing. Connections and clients are kept between streams where a program would keep them.
Standard library only, but for the library that is measured: peers run this file with a Python of their own.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

MESSAGES = [{"role": "user", "content": "hi"}]
OPENAI_PATH = "/v1/chat/completions"
END = b"0\r\n\r\n"
BUFFER_BYTES = 1 << 16


class Tally:
    """What one stream gave."""

    def __init__(self) -> None:
        self.started = time.monotonic_ns()
        self.first = 0
        self.characters = 0

    def token(self, text: str | None) -> None:
        """Count a piece of the answer."""
        if text:
            self.first = self.first or time.monotonic_ns()
            self.characters += len(text)

    def data(self) -> None:
        """Notice bytes that nobody parses."""
        self.first = self.first or time.monotonic_ns()


Read = Callable[[str, str, Tally], Coroutine[Any, Any, None]]


def _request(url: str, model: str) -> bytes:
    body = json.dumps({"model": model, "messages": MESSAGES, "stream": True}).encode()
    head = (
        f"POST {OPENAI_PATH} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def with_socket() -> Read:
    """A blocking socket and one buffer: what the operating system costs."""
    kept: list[socket.socket] = []
    buffer = bytearray(BUFFER_BYTES)

    async def read(url: str, model: str, tally: Tally) -> None:
        if not kept:
            kept.append(socket.create_connection(_address(url)))
        kept[0].sendall(_request(url, model))
        tail = b""
        while tail != END and (count := kept[0].recv_into(buffer)):
            tally.data()
            tail = (tail + buffer[max(0, count - len(END)) : count])[-len(END) :]

    return read


def with_asyncio() -> Read:
    """asyncio's streams, nothing parsed."""
    kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def read(url: str, model: str, tally: Tally) -> None:
        if not kept:
            kept.append(await asyncio.open_connection(*_address(url)))
        reader, writer = kept[0]
        writer.write(_request(url, model))
        tail = b""
        while tail != END and (data := await reader.read(BUFFER_BYTES)):
            tally.data()
            tail = (tail + data[-len(END) :])[-len(END) :]

    return read


def _httpx_stream() -> Callable[[str, str], Any]:
    httpx = importlib.import_module("httpx")
    client = httpx.AsyncClient(timeout=None, trust_env=False)

    def stream(url: str, model: str) -> Any:
        body = {"model": model, "messages": MESSAGES, "stream": True}
        return client.stream("POST", url + OPENAI_PATH, json=body)

    return stream


def with_httpx_bytes() -> Read:
    """httpx's `aiter_bytes`, nothing parsed."""
    stream = _httpx_stream()

    async def read(url: str, model: str, tally: Tally) -> None:
        async with stream(url, model) as response:
            async for _ in response.aiter_bytes():
                tally.data()

    return read


def with_httpx_lines() -> Read:
    """httpx's `aiter_lines` and `json.loads`: what most programs do."""
    stream = _httpx_stream()

    async def read(url: str, model: str, tally: Tally) -> None:
        async with stream(url, model) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    tally.token(json.loads(line[6:])["choices"][0]["delta"].get("content"))

    return read


def with_httpx_sse() -> Read:
    """httpx-sse."""
    library = importlib.import_module("httpx_sse")
    stream = _httpx_stream()

    async def read(url: str, model: str, tally: Tally) -> None:
        async with stream(url, model) as response:
            async for event in library.EventSource(response).aiter_sse():
                if event.data != "[DONE]":
                    tally.token(json.loads(event.data)["choices"][0]["delta"].get("content"))

    return read


def with_ollama() -> Read:
    """ollama-python's `AsyncClient.chat`, which reads NDJSON."""
    library = importlib.import_module("ollama")
    clients: dict[str, Any] = {}

    async def read(url: str, model: str, tally: Tally) -> None:
        client = clients.setdefault(url, None) or library.AsyncClient(host=url)
        clients[url] = client
        async for part in await client.chat(model=model, messages=MESSAGES, stream=True):
            tally.token(part.message.content)

    return read


async def _take_openai_chunks(chunks: AsyncIterator[Any], tally: Tally) -> None:
    async for chunk in chunks:
        if chunk.choices:
            tally.token(chunk.choices[0].delta.content)


def with_openai() -> Read:
    """openai-python's `AsyncOpenAI`."""
    library = importlib.import_module("openai")
    clients: dict[str, Any] = {}

    async def read(url: str, model: str, tally: Tally) -> None:
        client = clients.setdefault(url, None) or library.AsyncOpenAI(api_key="none", base_url=f"{url}/v1")
        clients[url] = client
        chunks = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        await _take_openai_chunks(chunks, tally)

    return read


def with_any_llm() -> Read:
    """any-llm's `acompletion` with its OpenAI provider."""
    library = importlib.import_module("any_llm")

    async def read(url: str, model: str, tally: Tally) -> None:
        chunks = await library.acompletion(
            model=model,
            provider="openai",
            messages=MESSAGES,
            stream=True,
            api_key="none",
            api_base=f"{url}/v1",
        )
        await _take_openai_chunks(chunks, tally)

    return read


def with_litellm() -> Read:
    """litellm's `acompletion` with its OpenAI provider."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    library = importlib.import_module("litellm")

    async def read(url: str, model: str, tally: Tally) -> None:
        chunks = await library.acompletion(
            model=f"openai/{model}", messages=MESSAGES, stream=True, api_key="none", api_base=f"{url}/v1"
        )
        await _take_openai_chunks(chunks, tally)

    return read


READERS: dict[str, Callable[[], Read]] = {
    "socket": with_socket,
    "asyncio": with_asyncio,
    "httpx-bytes": with_httpx_bytes,
    "httpx-lines": with_httpx_lines,
    "httpx-sse": with_httpx_sse,
    "ollama": with_ollama,
    "openai": with_openai,
    "any-llm": with_any_llm,
    "litellm": with_litellm,
}


def main(kind: str) -> None:
    """Read streams until standard input ends."""
    # Libraries may print; what they print must not be taken for a result.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    read = READERS[kind]()
    answers.write("ready\n")
    answers.flush()
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            order = json.loads(line)
            tally = Tally()
            runner.run(read(order["url"], order["model"], tally))
            result = {"started": tally.started, "first": tally.first, "characters": tally.characters}
            answers.write(json.dumps(result) + "\n")
            answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
