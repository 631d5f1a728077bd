"""One llama.cpp for all tests, and editors on screens of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.editors.editors import EDITORS, Editor
from tests.editors.terminal import Terminal, terminal
from tests.fakes.llama_server import llama_server
from tests.heavy.installing import LeftOut


@pytest.fixture(scope="session")
def llama(tiny_model: Path) -> Iterator[str]:
    """The address of a llama.cpp server whose model fills in."""
    pytest.importorskip("xllamacpp")
    with llama_server(tiny_model, parallel=2) as server:
        yield server.url


@pytest.fixture
def new_terminal() -> Iterator[Callable[[], Terminal]]:
    """Opens a terminal, which is closed in the end."""
    with ExitStack() as stack:

        def open_one() -> Terminal:
            try:
                return stack.enter_context(terminal())
            except LeftOut as error:
                pytest.skip(f"left out: {error}")

        yield open_one


@pytest.fixture(params=EDITORS)
def editor(request: pytest.FixtureRequest) -> Editor:
    """Each of the editors that can be had."""
    return available(request.param)


def available(name: str) -> Editor:
    """An editor, or the test is left out."""
    try:
        EDITORS[name].command()
    except LeftOut as error:
        pytest.skip(f"left out: {name}: {error}")
    return EDITORS[name]
