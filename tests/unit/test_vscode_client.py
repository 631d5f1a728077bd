"""The VS Code extension by its own tools: style, and its unit tests, which speak to this daemon."""

from __future__ import annotations

import pytest

from tests.node import run_npm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400, func_only=True)]


@pytest.mark.parametrize("script", ["lint", "test"])
def test_it_passes(script: str) -> None:
    done = run_npm("run", "--silent", script, seconds=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
