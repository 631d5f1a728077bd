"""What a user sees and types in each editor, with a daemon of its own and with one that listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.editors.conftest import available
from tests.editors.daemons import configure, listening, status, written
from tests.editors.editors import EDITORS, Editor, start
from tests.editors.terminal import Terminal
from tests.fakes.upstream import Reply, Request, ScriptedUpstream, json_reply, sse_reply

pytestmark = [
    pytest.mark.editors,
    pytest.mark.xdist_group("editors"),
    pytest.mark.timeout(120, func_only=True),
]

TYPED = "total = numbers."
"""The last key is none that a model would strike, so what is offered before it is not being typed along."""


@contextmanager
def daemon_for(transport: str, home: Path) -> Iterator[Path | None]:
    """The file of a daemon that listens, or nothing where the editor starts one itself."""
    if transport == "stdio":
        yield None
    else:
        with listening(home) as file:
            yield file


@pytest.mark.parametrize("transport", ["stdio", "tcp"])
def test_an_offer_is_shown_and_accepted(
    tmp_path: Path, llama: str, editor: Editor, new_terminal: Callable[[], Terminal], transport: str
) -> None:
    home, file = tmp_path / "home", tmp_path / "a.py"
    configure(home, llama)
    offer = written(llama, TYPED, editor.behind)
    terminal = new_terminal()
    with daemon_for(transport, home) as daemon_file:
        start(editor, terminal, home, file, daemon_file)
        terminal.type(TYPED)
        terminal.sees(TYPED + offer)
        terminal.press("Tab")
        terminal.press(*editor.save)
        saved(terminal, file)
        assert file.read_text() == f"{TYPED}{offer}\n"
        if daemon_file:
            terminal.until(
                lambda: status(daemon_file)["completion"]["accepted"] == 1, "the daemon counts the offer"
            )


def test_three_editors_use_one_daemon_and_leave_one_after_another(
    tmp_path: Path, llama: str, new_terminal: Callable[[], Terminal]
) -> None:
    home = tmp_path / "home"
    configure(home, llama)
    with listening(home) as daemon_file:
        running: list[tuple[Editor, Terminal]] = []
        for name in EDITORS:
            running.append((available(name), new_terminal()))
            editor, terminal = running[-1]
            start(editor, terminal, tmp_path / name, tmp_path / f"{name}.py", daemon_file)
        for count in range(3):
            typed = f"value_{count} = numbers."
            for _, terminal in running:
                terminal.type(typed)
            for editor, terminal in running:
                offer = written(llama, typed, editor.behind)
                terminal.sees(typed + offer)
            assert status(daemon_file)["connections"] == len(running) + 1
            editor, terminal = running.pop(0)
            terminal.press(*editor.leave)
            terminal.until(lambda: terminal.is_gone, "the editor ends")  # noqa: B023
            for editor, terminal in running:
                terminal.press(*(["Escape", "S"] if editor.begin else ["C-a", "C-k"]))
        assert status(daemon_file)["connections"] == 1


# with a server that says what the test wants


def server(*texts: str) -> Callable[[Request], Reply]:
    """A llama.cpp server that writes the first text, and the others to who asks for several."""

    def reply(request: Request) -> Reply:
        if request.path != "/infill":
            return json_reply(404, {})
        text = texts[request.json().get("seed") or 0]
        return sse_reply([{"content": text, "stop": False}, {"content": "", "stop": True}])

    return reply


def saved(terminal: Terminal, file: Path) -> None:
    """Wait until something is in a file."""
    terminal.until(lambda: file.exists() and file.stat().st_size > 0, "the file is saved")


def press_until(terminal: Terminal, key: str, predicate: Callable[[], bool]) -> None:
    """Press a key again when nothing came of it, as a user does who was too quick."""

    def look() -> bool:
        terminal.press(key)
        with suppress(AssertionError):
            terminal.until(predicate, key, 0.5)
        return predicate()

    terminal.until(look, key)


def test_an_offer_of_several_lines(
    tmp_path: Path, editor: Editor, new_terminal: Callable[[], Terminal]
) -> None:
    home, file = tmp_path / "home", tmp_path / "a.py"
    with ScriptedUpstream.in_thread(server("\n    one = 1\n    return one")) as upstream:
        configure(home, upstream.url)
        terminal = new_terminal()
        start(editor, terminal, home, file)
        terminal.type("def f():")
        terminal.sees("def f():\n    one = 1\n    return one\n")
        terminal.press("Tab")
        terminal.press(*editor.save)
        saved(terminal, file)
        assert file.read_text() == "def f():\n    one = 1\n    return one\n"


def test_a_word_another_offer_and_none(
    tmp_path: Path, editor: Editor, new_terminal: Callable[[], Terminal]
) -> None:
    home, file = tmp_path / "home", tmp_path / "a.py"
    with ScriptedUpstream.in_thread(server("alpha + beta", "gamma", "delta")) as upstream:
        configure(home, upstream.url)
        with listening(home) as daemon_file:
            terminal = new_terminal()
            start(editor, terminal, home, file, daemon_file)
            terminal.type(TYPED)
            terminal.sees(f"{TYPED}alpha + beta")
            press_until(terminal, editor.next, lambda: f"{TYPED}gamma" in terminal.screen())
            press_until(terminal, editor.next, lambda: f"{TYPED}alpha + beta" in terminal.screen())
            terminal.press(editor.word)
            terminal.until(
                lambda: status(daemon_file)["completion"]["accepted"] == 1, "the daemon counts the word"
            )
            terminal.sees(f"{TYPED}alpha + beta")
            press_until(terminal, editor.dismiss, lambda: "beta" not in terminal.screen())
            terminal.until(
                lambda: status(daemon_file)["completion"]["rejected"] > 0, "the daemon counts the refusal"
            )
            terminal.press(*editor.save)
            saved(terminal, file)
            assert file.read_text() == f"{TYPED}alpha\n"


@pytest.mark.parametrize("eol", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_emoji_before_the_cursor(
    tmp_path: Path, editor: Editor, new_terminal: Callable[[], Terminal], eol: str
) -> None:
    home, file = tmp_path / "home", tmp_path / "a.py"
    before, behind = 'x = "😀"\ny = "😀👍🏽e\u0301" + ', "\nz = 1\n"
    file.write_text(f"{before}{behind}", newline=eol)
    with ScriptedUpstream.in_thread(server("me[0]")) as upstream:
        configure(home, upstream.url)
        terminal = new_terminal()
        start(editor, terminal, home, file)
        terminal.press(*(["Escape", "j", "A"] if editor.begin else ["C-n", "C-e"]))
        terminal.type("na")
        terminal.sees("name[0]")
        sent = [request.json() for request in upstream.requests if request.path == "/infill"][-1]
        terminal.press("Tab")
        terminal.press(*editor.save)
        terminal.until(lambda: b"[0]" in file.read_bytes(), "the file is saved")
        assert file.read_bytes() == f"{before}name[0]{behind}".replace("\n", eol).encode()
        told = "\n" if editor.name == "emacs" else eol  # Emacs keeps lines apart from how a file ends them
        assert sent["input_prefix"] == f"{before}na".replace("\n", told)
        assert sent["input_suffix"] == behind.replace("\n", told)


def test_keys_struck_quickly_leave_one_offer(
    tmp_path: Path, editor: Editor, new_terminal: Callable[[], Terminal]
) -> None:
    home, file = tmp_path / "home", tmp_path / "a.py"
    typed = "the_quick_brown_fox_jumps_over_the_lazy_dog = "
    with ScriptedUpstream.in_thread(server("42")) as upstream:
        configure(home, upstream.url)
        with listening(home) as daemon_file:
            terminal = new_terminal()
            start(editor, terminal, home, file, daemon_file)
            for letter in typed:
                terminal.type(letter)
            terminal.sees(f"{typed}42")
            assert terminal.screen().count("42") == 1
            counts = status(daemon_file)["completion"]
            assert counts["failures"] == 0
            assert counts["generations"] < len(typed) / 2
            terminal.press("Tab")
            terminal.press(*editor.save)
            saved(terminal, file)
            assert file.read_text() == f"{typed}42\n"


def test_the_list_of_emacs_has_it_when_it_is_asked_for(
    tmp_path: Path, new_terminal: Callable[[], Terminal]
) -> None:
    home, file, editor = tmp_path / "home", tmp_path / "a.py", available("emacs")

    def ask_for_popup(home: Path) -> None:
        with (home / ".emacs.d" / "init.el").open("a") as init:
            init.write("(setq ollm-settings '(:completion (:popup t)))\n")

    with ScriptedUpstream.in_thread(server("nt(a)")) as upstream:
        configure(home, upstream.url)
        terminal = new_terminal()
        start(editor, terminal, home, file, more=ask_for_popup)
        terminal.type("pri")
        terminal.sees("print(a)")
        terminal.press("C-M-i")
        terminal.until(lambda: terminal.column == len("print(a)"), "the cursor behind what is inserted")
        terminal.press(*editor.save)
        saved(terminal, file)
        assert file.read_text() == "print(a)\n"
