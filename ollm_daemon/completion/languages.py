"""What completion needs to know of a language: how blocks and comments look. Data; the default is like C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Language:
    """One language, by its identifier in LSP.

    Attributes:
        comment: What begins a comment to the end of the line; empty where there is none.
        openers: Last characters or words of a line that opens a block.
        heads: Words of a line that opens a block when its last character is `)`.
        has_tags: A line that ends with an opening tag opens a block.
        enders: Words that end a block, beside closing brackets and tags.
        middles: What begins a line that goes on with the statement of a block, such as `else`.
        quotes: Characters that begin and end a string.
        texts: Marks around comments and strings of several lines, in which sentences stand.
        is_prose: Text for people: sentences are not chatter here.
    """

    comment: str = "//"
    openers: tuple[str, ...] = ("{", "(", "[", "=>", "->")
    heads: tuple[str, ...] = ()
    has_tags: bool = False
    enders: tuple[str, ...] = ()
    middles: tuple[str, ...] = ("else", "catch", "finally", "case", "default")
    quotes: str = "\"'"
    texts: tuple[tuple[str, str], ...] = (("/*", "*/"),)
    is_prose: bool = False


_JAVA = Language()
_C = replace(
    _JAVA, openers=("{", "(", "["), middles=(*_JAVA.middles, "public:", "private:", "protected:")
)  # -> goes to a member
_SCRIPT = replace(_JAVA, openers=("{", "(", "[", "=>"), quotes="\"'`")
_JSX = replace(_SCRIPT, has_tags=True)
_RUST = replace(_JAVA, quotes='"')  # ' begins a lifetime
_HASH = Language("#", ("{", "(", "["), texts=())
_INDENTED = Language(
    "#",
    (":", "(", "[", "{"),
    middles=("elif", "else", "except", "finally", "case"),
    texts=(('"""', '"""'), ("'''", "'''")),
)
_RUBY = Language(
    "#",
    ("{", "(", "[", "|", "do", "then", "else", "begin", "ensure"),
    heads=("def",),
    enders=("end",),
    middles=("else", "elsif", "when", "in", "rescue", "ensure"),
    texts=(("=begin", "=end"),),
)
_LUA = Language(
    "--",
    ("{", "(", "do", "then", "else", "repeat"),
    heads=("function",),
    enders=("end", "until"),
    middles=("else", "elseif"),
    texts=(("--[[", "]]"),),
)
_SHELL = Language(
    "#",
    ("{", "(", "do", "then", "else", "in"),
    enders=("fi", "done", "esac"),
    middles=("else", "elif"),
    texts=(),
)
_MARKUP = Language(
    "", ("{",), has_tags=True, middles=(), quotes='"', texts=(("<!--", "-->"),)
)  # ' is an apostrophe
_DATA = Language("", ("{", "["), middles=(), quotes='"', texts=())
_PROSE = Language("", (), middles=(), quotes="", texts=(), is_prose=True)
_LISP = Language(";", ("(", "["), middles=(), quotes='"', texts=())

LANGUAGES: Mapping[str, Language] = {
    "c": _C,
    "cpp": _C,
    "objective-c": _C,
    "csharp": _JAVA,
    "dart": _SCRIPT,
    "go": replace(_C, quotes="\"'`"),
    "java": _JAVA,
    "javascript": _SCRIPT,
    "javascriptreact": _JSX,
    "kotlin": _JAVA,
    "php": replace(_SCRIPT, quotes="\"'"),
    "rust": _RUST,
    "scala": _JAVA,
    "swift": _RUST,
    "typescript": _SCRIPT,
    "typescriptreact": _JSX,
    "zig": _RUST,
    "css": replace(_JAVA, comment="", openers=("{",), middles=()),
    "scss": replace(_JAVA, openers=("{",), middles=()),
    "json": _DATA,
    "jsonc": replace(_DATA, comment="//", texts=(("/*", "*/"),)),
    "html": _MARKUP,
    "xml": _MARKUP,
    "vue": _MARKUP,
    "svelte": _MARKUP,
    "python": _INDENTED,
    "yaml": Language("#", (":", "-", "|", ">"), middles=("- ",), texts=()),
    "toml": Language("#", ("[", "{"), middles=(), texts=()),
    "nim": _INDENTED,
    "fsharp": Language("//", ("=", "->", "then", "do", "(", "["), middles=("|", "else", "elif"), quotes='"'),
    "haskell": Language("--", ("=", "do", "of", "where", "->"), middles=("|",), quotes='"', texts=()),
    "makefile": Language("#", (":", "\\"), middles=(), texts=()),
    "ruby": _RUBY,
    "elixir": Language(
        "#", ("do", "->", "(", "[", "{"), enders=("end",), middles=("else", "rescue", "after"), texts=()
    ),
    "lua": _LUA,
    "shellscript": _SHELL,
    "julia": Language(
        "#",
        ("do", "begin", "(", "[", "else"),
        heads=("function", "macro"),
        enders=("end",),
        middles=("else", "elseif", "catch", "finally"),
        texts=(('"""', '"""'),),
    ),
    "sql": Language("--", ("(",), enders=("end",), middles=(), quotes="'"),
    "r": _HASH,
    "perl": _HASH,
    "powershell": replace(_HASH, middles=("else", "elseif", "catch", "finally"), texts=(("<#", "#>"),)),
    "dockerfile": Language("#", ("\\",), middles=(), texts=()),
    "clojure": _LISP,
    "lisp": _LISP,
    "emacs-lisp": _LISP,
    "markdown": _PROSE,
    "plaintext": _PROSE,
    "latex": replace(_PROSE, comment="%"),
    "restructuredtext": _PROSE,
    "gitcommit": replace(_PROSE, comment="#"),
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
    "objc": "objective-c",
    "md": "markdown",
    "text": "plaintext",
    "tex": "latex",
    "elisp": "emacs-lisp",
    "yml": "yaml",
    "make": "makefile",
}
"""Names that editors use instead (Vim's file types among them)."""


def language_of(identifier: str) -> Language:
    """The language of an identifier; Java's manners for one that is not known."""
    name = identifier.lower()
    return LANGUAGES.get(ALIASES.get(name, name), _JAVA)
