"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The daemon runs on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of half a megabyte."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")
