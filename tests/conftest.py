"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--uvloop` runs every test that has an event loop on uvloop."""
    parser.addoption("--uvloop", action="store_true", help="run tests on uvloop's event loop")


@pytest.fixture(scope="session")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The daemon runs on asyncio, or on uvloop."""
    return "asyncio", {"use_uvloop": request.config.getoption("--uvloop")}


@pytest.fixture(autouse=True)
def _nobody_is_met_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow test must not look like an idle editor; who tests that one sets its own time."""
    monkeypatch.setattr("ollm_daemon.server.connection.AHEAD_SECONDS", 3600.0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of half a megabyte."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")
