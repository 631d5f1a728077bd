"""The place of the cursor: what stands around it, and whether a line or a block is wanted there."""

from __future__ import annotations

import pytest

from ollm_daemon.completion.cursor import Cursor, in_text, opens_block, read, step_of, wants_block
from ollm_daemon.completion.languages import LANGUAGES, language_of


def cursor(text: str, language: str = "python") -> Cursor:
    prefix, _, suffix = text.partition("¦")
    return Cursor(prefix, suffix, language_of(language))


def test_lines_around_the_cursor() -> None:
    place = cursor("a\n\n    b¦c\n\n  d\ne")
    assert (place.line_before, place.line_after) == ("    b", "c")
    assert (place.line_above, place.line_below) == ("a", "  d")
    assert place.indent == "    "
    assert not place.is_blank
    assert cursor("¦").line_above == ""
    assert cursor("¦").line_below is None
    assert cursor("a¦\n\n").line_below is None


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_any_end(end: str) -> None:
    place = cursor("a\n  b¦c\nd".replace("\n", end))
    assert (place.line_above, place.line_before, place.line_after, place.line_below) == ("a", "  b", "c", "d")


def test_line_ends_are_those_of_most_lines_nearby() -> None:
    assert cursor("a\r\nb\r\nc\n¦").eol == "\r\n"
    assert cursor("a\r\nb\nc\n¦").eol == "\n"
    assert cursor("¦").eol == "\n"


def test_white_space_of_a_file() -> None:
    assert cursor("if x:\n\t¦").uses_tabs is True
    assert cursor("if x:\n    ¦").uses_tabs is False
    assert cursor("if x:\n\ty\n¦").uses_tabs is True
    assert cursor("¦\nif x:\n    y\n").uses_tabs is False
    assert cursor("x\n¦").uses_tabs is None
    assert step_of(["a", "  b", "    c"]) == 2
    assert step_of(["a", "    b", "        c"]) == 4
    assert step_of(["a", " * b", "  c"]) == 2
    assert step_of([]) == step_of(["a"]) == step_of(["        a"]) == 4


@pytest.mark.parametrize(
    ("text", "language", "invoked", "block"),
    [
        ("¦", "python", False, True),
        ("    ¦\n", "python", False, True),
        ("    ¦x\n", "python", False, False),
        ("    ¦)\n", "python", False, False),
        ("x = ¦\n", "python", False, False),
        ("x = 1¦\n", "python", False, False),
        ("x = 1¦\n", "python", True, True),
        ("x = 1¦)\n", "python", True, False),
        ("def f():¦\n", "python", False, True),
        ("def f():  # why¦\n", "python", False, False),
        ("def f(): ¦\n", "python", False, False),
        ("# x:¦\n", "python", True, False),
        ("x = 'a:¦\n", "python", True, False),
        ("x = 'a:'¦\n", "python", False, False),
        ("x[1:¦]\n", "python", False, False),
        ("f(¦)\n", "python", False, False),
        ("f(¦\n", "python", False, True),
        ("f(¦, b)\n", "python", False, False),
        ("{¦}", "json", False, True),
        ("[¦]", "json", False, False),
        ("a => ¦", "javascript", False, False),
        ("a =>¦", "javascript", False, True),
        ("it('x', () => {¦});", "javascript", False, True),
        ("go func() {¦}()", "go", False, True),
        ("import { ¦ } from 'x'", "javascript", False, False),
        ("a->¦", "cpp", False, False),
        ("a ->¦", "java", False, True),
        ("undo¦", "ruby", False, False),
        ("items.each do¦", "ruby", False, True),
        ("def f(x)¦", "ruby", False, True),
        ("puts(x)¦", "ruby", False, False),
        ("if [ $# -gt 1 ]; then¦", "shellscript", False, True),
        ("echo \\# then¦", "shellscript", False, True),
        ("<p>¦", "html", False, True),
        ("<p>¦</p>", "html", False, False),
        ("</p>¦", "html", False, False),
        ("<br/>¦", "html", False, False),
        ("<Box onClick={() => a}>¦", "typescriptreact", False, True),
        ("a > b¦", "html", False, False),
        ("Some words¦", "markdown", False, False),
        ("Some words¦", "markdown", True, True),
        ("¦", "markdown", False, True),
        ("A tail ¦ here", "markdown", True, False),
    ],
)
def test_line_or_block(text: str, language: str, invoked: bool, block: bool) -> None:
    assert wants_block(cursor(text, language), invoked=invoked) is block


@pytest.mark.parametrize(
    ("text", "language", "opened"),
    [
        ("foo(bar[", "python", "(["),
        ("foo(')'", "python", "("),
        (r"foo('\')'", "python", "("),
        (r"foo('\\')", "python", ""),
        ("foo(  # )", "python", "("),
        ("foo()\nbar(", "python", "("),
        ("it's (\n{", "python", "{"),
        ("f<'a>(", "rust", "("),
        ("`(\n`{", "javascript", "{"),
        ("'http://' + (", "javascript", "("),
        ("a // (", "javascript", ""),
        ("a --(", "lua", ""),
        ("[(])", "python", "["),
        ("", "python", ""),
    ],
)
def test_open_brackets(text: str, language: str, opened: str) -> None:
    reading = read(text, language_of(language))
    assert "".join(reading.opened) == opened


def test_reading_goes_on_where_another_text_ended() -> None:
    python = language_of("python")
    before = read('print(f("a', python)
    reading = read('b"), c)', python, before)
    assert (reading.left, reading.closed, reading.opened, reading.odds) == (1, [2, 6], [], 0)
    assert before.opened == ["(", "("]
    assert read("x(1)]", python, before).quote == '"'


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ('"""\n¦', "python", True),
        ('"""a"""\n¦', "python", False),
        ("# ¦", "python", True),
        ("x = '# ¦", "python", False),
        ("/*\n * ¦", "java", True),
        ("/* a */\n¦", "java", False),
        ('"src/**/*.js"\n¦', "javascript", False),
        ("x = 1 // ¦", "java", True),
        ("--[[\n¦", "lua", True),
        ("<!-- ¦", "html", True),
        ("¦", "markdown", True),
    ],
)
def test_in_text(text: str, language: str, expected: bool) -> None:
    assert in_text(cursor(text, language)) is expected


def test_every_language_tells_its_openers_apart_from_names() -> None:
    for name, language in LANGUAGES.items():
        for opener in language.openers:
            assert opens_block(f"x {opener}", language), (name, opener)
            if opener[-1].isalnum():
                assert not opens_block(f"my{opener}", language), (name, opener)


def test_unknown_languages_have_the_manners_of_java() -> None:
    assert language_of("brainfork") is LANGUAGES["java"]
    assert language_of("TSX") is LANGUAGES["typescriptreact"]
