"""Holes in real files: the end of a line, a line, or a block, cut by seed. Pure but for reading files."""

from __future__ import annotations

import itertools
import random
import shutil
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["rest of line", "line", "block"]
KINDS: tuple[Kind, ...] = ("rest of line", "line", "block")
LANGUAGES = {".py": "python", ".js": "javascript"}
COMMENTS = {"python": "#", "javascript": "//"}
SMALLEST, LARGEST = 2_000, 40_000
"""Bytes of a file that holes are cut from."""
MOST_LINES = 8
"""Lines of a block."""
LONGEST_LINE = 200
NEIGHBOURS = 3
"""Files of the same folder that are open too."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a file, and what stood there.

    Attributes:
        neighbours: Other files of its folder.
    """

    path: Path
    language: str
    kind: Kind
    prefix: str
    truth: str
    suffix: str
    neighbours: tuple[Path, ...] = ()


def installed_files() -> list[Path]:
    """Python and JavaScript files that are installed here: the standard library, packages, npm."""
    library, packages = (Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib"))
    found = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
    found += [path for pattern in ("*.py", "*.js") for path in packages.rglob(pattern)]
    node = shutil.which("node")
    if node:
        found += (Path(node).resolve().parents[1] / "lib" / "node_modules").rglob("*.js")
    return [path for path in found if not {"test", "tests", "idlelib"} & set(path.parts)]


def matching_files(patterns: Iterable[str]) -> list[Path]:
    """Files by globs, relative to the working directory."""
    found = []
    for pattern in patterns:
        start = Path(pattern)
        whole = start.relative_to(start.anchor) if start.is_absolute() else start
        found += [path.resolve() for path in Path(start.anchor or ".").glob(str(whole))]
    return found


def choose_holes(files: Iterable[Path], count: int, seed: int) -> list[Hole]:
    """Holes by seed: kinds and languages in turn, each from another file while there are some."""
    chance = random.Random(seed)
    by_language: dict[str, list[Path]] = {}
    for path in sorted({path for path in files if path.suffix in LANGUAGES and _is_of_use(path)}):
        by_language.setdefault(LANGUAGES[path.suffix], []).append(path)
    queues = {language: _shuffled(paths, chance) for language, paths in sorted(by_language.items())}
    turns = [(language, kind) for kind in KINDS for language in queues]
    holes: list[Hole] = []
    misses = 0
    for language, kind in itertools.cycle(turns):
        if len(holes) >= count or misses > 20 * len(turns):
            return holes
        path = next(queues[language])
        hole = cut(path, language, kind, chance)
        misses = 0 if hole else misses + 1
        holes += [hole] if hole else []
    return holes


def _shuffled(paths: Sequence[Path], chance: random.Random) -> Iterator[Path]:
    while True:
        yield from chance.sample(paths, len(paths))


def _is_of_use(path: Path) -> bool:
    is_written = not path.name.endswith(".min.js") and path.name != "__init__.py"
    return is_written and path.is_file() and SMALLEST <= path.stat().st_size <= LARGEST


def cut(path: Path, language: str, kind: Kind, chance: random.Random) -> Hole | None:
    """One hole of a kind; none where the file has no place for it."""
    try:
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None
    lines = text.split("\n")
    if max(map(len, lines)) > LONGEST_LINE:
        return None  # minified, or data
    places = list(_PLACES[kind](lines, language))
    if not places:
        return None
    start, column, end = chance.choice(places)
    if kind == "rest of line":
        column = chance.choice(_columns(lines[start]))
    offset = sum(len(line) + 1 for line in lines[:start]) + column
    stop = sum(len(line) + 1 for line in lines[:end]) + len(lines[end])
    siblings = [other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path]
    siblings = [other for other in siblings if _is_of_use(other)]
    open_too = tuple(chance.sample(siblings, min(NEIGHBOURS, len(siblings))))
    return Hole(path, language, kind, text[:offset], text[offset:stop], text[stop:], open_too)


Place = tuple[int, int, int]
"""First line of a hole, its column there, and its last line, which it takes to the end."""


def _line_places(lines: Sequence[str], language: str) -> Iterator[Place]:
    for number, line in enumerate(lines):
        code = line.strip()
        if number > 5 and len(code) >= 12 and not code.startswith((COMMENTS[language], "*", "/*", '"""')):
            yield number, _indent(line), number


def _rest_places(lines: Sequence[str], language: str) -> Iterator[Place]:
    return (place for place in _line_places(lines, language) if _columns(lines[place[0]]))


def _columns(line: str) -> list[int]:
    """Where a user pauses in a line: behind a word or a mark, with something left to say."""
    start, end = _indent(line) + 3, len(line) - 4
    return [column for column in range(start, end) if line[column - 1] in " .(=[{," and line[column] != " "]


def _block_places(lines: Sequence[str], language: str) -> Iterator[Place]:
    """Bodies of what a line opens, by indentation."""
    opener = ":" if language == "python" else "{"
    for number, line in enumerate(lines[:-1]):
        if not line.strip().endswith(opener) or line.strip().startswith(COMMENTS[language]):
            continue
        inner = _indent(lines[number + 1])
        if inner <= _indent(line) or not lines[number + 1].strip():
            continue
        end = number + 1
        while end + 1 < len(lines) and _indent(lines[end + 1]) >= inner and lines[end + 1].strip():
            end += 1
        if 2 <= end - number <= MOST_LINES:
            yield number + 1, inner, end


_PLACES = {"rest of line": _rest_places, "line": _line_places, "block": _block_places}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
