"""What completion needs to know of a language: how blocks and comments look. Data; the default is like C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Language:
    """One language, by its identifier in LSP.

    Attributes:
        comment: What begins a comment to the end of the line; empty where there is none.
        blocks: Whether blocks are told by indentation, by brackets, or by words such as `end`.
        openers: Last characters or words of a line that opens a block.
        enders: Words that end a block, where blocks are told by words.
        quotes: Characters that begin and end a string.
        is_prose: Text for people: sentences are not chatter here.
    """

    comment: str = "//"
    blocks: Literal["indentation", "brackets", "words"] = "brackets"
    openers: tuple[str, ...] = ("{", "(", "[", "=>", "->")
    enders: tuple[str, ...] = ()
    quotes: str = "\"'"
    is_prose: bool = False


_C = Language()
_SCRIPT = Language(quotes="\"'`")
_PYTHON = Language("#", "indentation", (":", "(", "[", "{"))
_RUBY = Language(
    "#",
    "words",
    ("{", "(", "[", "|", "do", "then", "else", "begin", "ensure"),
    ("end", "else", "elsif", "when", "rescue", "ensure"),
)
_LUA = Language(
    "--", "words", ("{", "(", "do", "then", "else", "repeat", ")"), ("end", "else", "elseif", "until")
)
_SHELL = Language(
    "#", "words", ("{", "(", "do", "then", "else", "in"), ("fi", "done", "esac", "}", "else", "elif")
)
_PROSE = Language("", "indentation", (), quotes="", is_prose=True)
_LISP = Language(";", "brackets", ("(", "["), quotes='"')

LANGUAGES: Mapping[str, Language] = {
    "c": _C,
    "cpp": _C,
    "csharp": _C,
    "dart": _SCRIPT,
    "go": Language(quotes="\"'`"),
    "java": _C,
    "javascript": _SCRIPT,
    "javascriptreact": _SCRIPT,
    "kotlin": _C,
    "php": _SCRIPT,
    "rust": Language(quotes='"'),  # ' begins a lifetime
    "scala": _C,
    "swift": Language(quotes='"'),
    "typescript": _SCRIPT,
    "typescriptreact": _SCRIPT,
    "zig": Language(quotes='"'),
    "css": Language("", openers=("{",)),
    "scss": Language(openers=("{",)),
    "json": Language("", openers=("{", "["), quotes='"'),
    "jsonc": Language(openers=("{", "["), quotes='"'),
    "html": Language("", openers=(">", "{")),
    "xml": Language("", openers=(">",)),
    "vue": Language("", openers=(">", "{")),
    "python": _PYTHON,
    "yaml": Language("#", "indentation", (":", "-", "|", ">")),
    "toml": Language("#", openers=("[", "{")),
    "nim": _PYTHON,
    "fsharp": Language("//", "indentation", ("=", "->", "then", "do", "(", "[")),
    "haskell": Language("--", "indentation", ("=", "do", "of", "where", "->"), quotes='"'),
    "makefile": Language("#", "indentation", (":", "\\")),
    "ruby": _RUBY,
    "elixir": Language("#", "words", ("do", "->", "(", "[", "{"), ("end", "else", "rescue")),
    "lua": _LUA,
    "shellscript": _SHELL,
    "julia": Language(
        "#", "words", ("do", "begin", ")", "(", "[", "else"), ("end", "else", "elseif", "catch")
    ),
    "sql": Language("--", "brackets", ("(",)),
    "r": Language("#"),
    "perl": Language("#"),
    "powershell": Language("#"),
    "dockerfile": Language("#", "indentation", ("\\",)),
    "clojure": _LISP,
    "lisp": _LISP,
    "emacs-lisp": _LISP,
    "markdown": _PROSE,
    "plaintext": _PROSE,
    "latex": Language("%", "indentation", ("}",), quotes="", is_prose=True),
    "restructuredtext": _PROSE,
    "gitcommit": Language("#", "indentation", (), quotes="", is_prose=True),
}
"""By language identifier (LSP 3.17, TextDocumentItem)."""

ALIASES: Mapping[str, str] = {
    "sh": "shellscript",
    "bash": "shellscript",
    "zsh": "shellscript",
    "js": "javascript",
    "ts": "typescript",
    "tsx": "typescriptreact",
    "jsx": "javascriptreact",
    "py": "python",
    "rb": "ruby",
    "rs": "rust",
    "cs": "csharp",
    "c++": "cpp",
    "md": "markdown",
    "text": "plaintext",
    "tex": "latex",
    "elisp": "emacs-lisp",
    "yml": "yaml",
    "make": "makefile",
}
"""Names that editors use instead (Vim's file types among them)."""


def language_of(identifier: str) -> Language:
    """The language of an identifier; C's manners for one that is not known."""
    name = identifier.lower()
    return LANGUAGES.get(ALIASES.get(name, name), _C)
