"""Each editor: how it is set up with the file of `docs/editors`, and which keys do what."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.editors import installing
from tests.editors.terminal import Terminal
from tests.fakes.peer import process_environment

SNIPPETS = Path(__file__).parents[2] / "docs" / "editors"


@dataclass(frozen=True)
class Editor:
    """One kind of editor.

    Attributes:
        command: Gives its command; raises `LeftOut`.
        set_up: Writes a user's files into a home folder; with a daemon's file, for that daemon.
        begin: Keys after which text can be typed into a new file.
        save: Keys that save it; `leave` ends the editor, whatever is unsaved.
        behind: What such an editor says stands behind the cursor at the end of a file.
    """

    name: str
    command: Callable[[], Path]
    set_up: Callable[[Path, Path | None], None]
    begin: tuple[str, ...]
    save: tuple[str, ...]
    leave: tuple[str, ...]
    word: str
    next: str
    dismiss: str
    behind: str = "\n"


def start(
    editor: Editor,
    terminal: Terminal,
    home: Path,
    file: Path,
    daemon_file: Path | None = None,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Open a file in an editor, with the daemon of a file or one of its own, ready to type."""
    home.mkdir(parents=True, exist_ok=True)
    editor.set_up(home, daemon_file)
    if more:
        more(home)
    terminal.start((str(editor.command()), *_flags(editor), str(file)), file.parent, environment(home))
    terminal.sees(file.name)
    terminal.press(*editor.begin)


def environment(home: Path) -> Mapping[str, str]:
    """What a process of the user in `home` sees; `ollm-daemon` is on its path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**process_environment(home), "PATH": path, "PYTHONWARNINGS": ""}


def _flags(editor: Editor) -> tuple[str, ...]:
    return ("-nw",) if editor.name == "emacs" else ("-n",)


def _set_up_neovim(home: Path, daemon_file: Path | None) -> None:
    folder = home / ".config" / "nvim"
    (folder / "lua").mkdir(parents=True, exist_ok=True)
    shutil.copy(SNIPPETS / "ollm.lua", folder / "lua")
    options = f"{{ daemon_file = '{daemon_file}' }}" if daemon_file else ""
    (folder / "init.lua").write_text(f"vim.o.laststatus = 2\nrequire('ollm').setup({options})\n")


def _set_up_vim(home: Path, daemon_file: Path | None) -> None:
    folder = home / ".vim" / "plugin"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SNIPPETS / "ollm.vim", folder)
    lines = ["set nocompatible laststatus=2 esckeys ttimeoutlen=10", "filetype on"]
    if daemon_file:
        lines.append(f"let g:ollm_daemon_file = '{daemon_file}'")
    (home / ".vimrc").write_text("\n".join(lines) + "\n")


def _set_up_emacs(home: Path, daemon_file: Path | None) -> None:
    folder = home / ".emacs.d"
    (folder / "lisp").mkdir(parents=True, exist_ok=True)
    shutil.copy(SNIPPETS / "ollm.el", folder / "lisp")
    lines = [
        "(setq inhibit-startup-screen t make-backup-files nil native-comp-deferred-compilation nil)",
        "(setq native-comp-async-report-warnings-errors nil)",
        '(add-to-list \'load-path (locate-user-emacs-file "lisp"))',
        "(require 'ollm)",
        "(ollm-setup 'python-mode)",
        "(add-hook 'python-mode-hook #'eglot-ensure)",
    ]
    if daemon_file:
        lines.append(f'(setq ollm-daemon-file "{daemon_file}")')
    (folder / "init.el").write_text("\n".join(lines) + "\n")


NEOVIM = Editor(
    "neovim",
    installing.neovim,
    _set_up_neovim,
    begin=("i",),
    save=("Escape", ":", "w", "Enter"),
    leave=("Escape", ":", "q", "a", "!", "Enter"),
    word="M-Right",
    next="M-]",
    dismiss="C-]",
)
VIM = Editor(
    "vim",
    lambda: installing.from_debian("vim"),
    _set_up_vim,
    begin=("i",),
    save=("Escape", ":", "w", "Enter"),
    leave=("Escape", ":", "q", "a", "!", "Enter"),
    word="C-l",
    next="C-b",
    dismiss="C-]",
)
EMACS = Editor(
    "emacs",
    lambda: installing.from_debian("emacs"),
    _set_up_emacs,
    begin=(),
    save=("C-x", "C-s"),
    leave=("C-x", "C-c", "!"),
    word="M-Right",
    next="M-]",
    dismiss="C-g",
    behind="",
)
EDITORS = {editor.name: editor for editor in (NEOVIM, VIM, EMACS)}
