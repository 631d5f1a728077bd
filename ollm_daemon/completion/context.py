"""Which other text helps: chunks of the documents that the editor has open, or had a moment ago.

Nothing is read from disk: what the editor did not open is never seen, and what the user excluded, or
what looks like a secret, never leaves. Pure but for the clock of recency, which callers pass in.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ollm_daemon.domain import ContextFile

CHUNK_LINES = 40
MAX_CHUNKS = 32
"""Chunks of places left behind that are kept."""
MAX_DOCUMENT = 2_000_000
"""Characters; a longer document is no context."""
SIMILAR = 0.9
"""Two chunks with this much in common are one."""
SECRETS = (
    "**/.env",
    "**/.env.*",
    "**/.envrc",
    "**/*.env",
    "**/*.pem",
    "**/*.key",
    "**/*.p12",
    "**/*.pfx",
    "**/*.kdbx",
    "**/id_rsa*",
    "**/id_ed25519*",
    "**/.ssh/**",
    "**/.aws/**",
    "**/.gnupg/**",
    "**/.netrc",
    "**/.npmrc",
    "**/.pypirc",
    "**/.git-credentials",
    "**/credentials*",
    "**/*secret*",
    "**/*secret*/**",
)
"""Files that hold keys by their nature: excluded whatever the settings say."""
_GLOB = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, with the words that tell what it is about."""

    uri: str
    text: str
    words: frozenset[str]


class RecentPlaces:
    """Where the user has been: documents by recency, and chunks of places left behind."""

    def __init__(self) -> None:
        self._order: OrderedDict[str, int | None] = OrderedDict()
        self._chunks: OrderedDict[tuple[str, str], Chunk] = OrderedDict()

    @property
    def uris(self) -> list[str]:
        """Open documents, the most recent last."""
        return list(self._order)

    @property
    def chunks(self) -> list[Chunk]:
        """Chunks left behind, the most recent last."""
        return list(self._chunks.values())

    def touch(self, uri: str, line: int | None = None) -> None:
        """The user opened a document, or changed it at a line."""
        known = self._order.pop(uri, None)
        self._order[uri] = known if line is None else line

    def leave(self, uri: str, text: str) -> None:
        """The user went on to another document: remember the chunk around the last change."""
        line = self._order.get(uri)
        if line is None or len(text) > MAX_DOCUMENT:
            return
        lines = text.splitlines(keepends=True)
        start = max(0, line - CHUNK_LINES // 2)
        self._keep(make_chunk(uri, "".join(lines[start : start + CHUNK_LINES])))

    def close(self, uri: str) -> None:
        """The document is no longer open; its chunks stay."""
        self._order.pop(uri, None)

    def _keep(self, chunk: Chunk) -> None:
        if not chunk.words:
            return
        for key, other in list(self._chunks.items()):
            if similarity(chunk.words, other.words) >= SIMILAR:
                del self._chunks[key]
        self._chunks[chunk.uri, chunk.text] = chunk
        while len(self._chunks) > MAX_CHUNKS:
            self._chunks.popitem(last=False)


def make_chunk(uri: str, text: str) -> Chunk:
    """A chunk of a document."""
    return Chunk(uri, text, frozenset(_WORD.findall(text)))


def similarity(one: frozenset[str], two: frozenset[str]) -> float:
    """How much two sets of words have in common, from 0 to 1 (Jaccard)."""
    return len(one & two) / len(one | two) if one and two else 0.0


def choose_context(
    uri: str,
    near: str,
    documents: Mapping[str, str],
    places: RecentPlaces,
    *,
    characters: int,
    exclude: Sequence[str] = (),
) -> tuple[ContextFile, ...]:
    """The chunks that help most, within a budget, the most telling last.

    Args:
        uri: The document that is written in.
        near: Its text around the cursor, which decides what is alike.
        documents: Open documents by URI.
        characters: Most characters in all.
        exclude: Globs of files that never leave.
    """
    wanted = frozenset(_WORD.findall(near))
    scored = []
    recency = {other: position for position, other in enumerate(places.uris)}
    seen: set[str] = set()
    candidates = [*places.chunks]
    for other in places.uris:
        text = documents.get(other, "")
        if other != uri and len(text) <= MAX_DOCUMENT:
            candidates += _pieces(other, text)
    for chunk in candidates:
        if chunk.uri == uri or chunk.text in seen or is_excluded(chunk.uri, exclude):
            continue
        seen.add(chunk.text)
        score = _score(chunk, wanted, uri, near)
        if score is not None:
            scored.append((score + 0.1 * recency.get(chunk.uri, 0) / max(1, len(recency)), chunk))
    return _take(sorted(scored, key=lambda row: row[0], reverse=True), characters)


def _pieces(uri: str, text: str) -> Iterable[Chunk]:
    lines = text.splitlines(keepends=True)
    for start in range(0, len(lines), CHUNK_LINES):
        yield make_chunk(uri, "".join(lines[start : start + CHUNK_LINES]))


def _score(chunk: Chunk, wanted: frozenset[str], uri: str, near: str) -> float | None:
    """How much a chunk helps: words in common, more in the same folder, more when it is imported.

    `None` for one of another kind that has no word in common.
    """
    score = similarity(chunk.words, wanted)
    path, own = PurePosixPath(path_of(chunk.uri)), PurePosixPath(path_of(uri))
    if not score and path.suffix != own.suffix:
        return None
    score += 0.05 if path.parent == own.parent else 0.0
    is_imported = len(path.stem) > 2 and re.search(rf"\b{re.escape(path.stem)}\b", near) is not None
    return score + (0.2 if is_imported else 0.0)


def _take(ranked: Sequence[tuple[float, Chunk]], characters: int) -> tuple[ContextFile, ...]:
    """The best that fit, without near-duplicates."""
    chosen: list[Chunk] = []
    left = characters
    for _, chunk in ranked:
        if len(chunk.text) > left or any(similarity(chunk.words, one.words) >= SIMILAR for one in chosen):
            continue
        chosen.append(chunk)
        left -= len(chunk.text)
    return tuple(ContextFile(path_of(chunk.uri), chunk.text) for chunk in reversed(chosen))


def path_of(uri: str) -> str:
    """The path in a URI; of an unsaved document what stands for it."""
    try:
        path = unquote(urlsplit(uri).path)
    except ValueError:
        path = ""
    return (path or uri).replace("\\", "/")


def is_excluded(uri: str, exclude: Sequence[str]) -> bool:
    """Whether a document never leaves: its nature or one of the user's globs says so."""
    path = path_of(uri).lower()
    return any(_glob(pattern.lower()).fullmatch(path) for pattern in (*SECRETS, *exclude))


@lru_cache(maxsize=512)
def _glob(pattern: str) -> re.Pattern[str]:
    """A glob as a pattern: `**` crosses folders, `*` and `?` do not.

    One that does not begin with `/` is of any folder, as what the user calls the workspace is not known here;
    one that ends with `/` is of all that the folder holds.
    """
    if not pattern.startswith(("/", "**")):
        pattern = f"**/{pattern}"
    if pattern.endswith("/"):
        pattern += "**"
    pieces = re.findall(r"\*\*/|/\*\*$|\*\*|\*|\?|[^*?]+", pattern)
    return re.compile("/?" + "".join(_GLOB.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)
