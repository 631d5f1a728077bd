"""An answer is held against what it was asked to be."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ollm_daemon import constraints
from ollm_daemon.constraints import find_violation
from ollm_daemon.domain import FinishReason, ResponseFormat

pytestmark = pytest.mark.anyio

COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
FAR = {"$ref": "http://127.0.0.1:1/schema.json"}
CASES: dict[str, tuple[ResponseFormat, str, FinishReason, bool, str | None]] = {
    "text": (ResponseFormat("text"), "anything", "stop", True, None),
    "json": (ResponseFormat("json"), '{"a": 1}', "stop", False, None),
    "no json": (ResponseFormat("json"), "sure!", "stop", False, "is not valid JSON"),
    "cut json": (ResponseFormat("json"), '{"a":', "length", False, "was cut at the token limit and is not"),
    "schema kept": (ResponseFormat("jsonSchema", COLOUR), '{"colour": "red"}', "stop", True, None),
    "schema broken": (
        ResponseFormat("jsonSchema", COLOUR),
        '{"colour": "green"}',
        "stop",
        True,
        "breaks its schema at $.colour (enum)",
    ),
    "schema not looked at": (ResponseFormat("jsonSchema", COLOUR), '{"colour": 1}', "stop", False, None),
    "schema of nonsense": (ResponseFormat("jsonSchema", {"type": 5}), "{}", "stop", True, None),
    "schema elsewhere": (ResponseFormat("jsonSchema", FAR), "{}", "stop", True, None),
    "pattern kept": (ResponseFormat("regex", r"\d{3}"), "123", "stop", True, None),
    "pattern broken": (ResponseFormat("regex", r"\d{3}"), "1234", "stop", True, "does not match the pattern"),
    "pattern of nonsense": (ResponseFormat("regex", "("), "x", "stop", True, None),
    "choice": (ResponseFormat("choice", ["yes", "no"]), " yes\n", "stop", False, None),
    "no choice": (ResponseFormat("choice", ["yes", "no"]), "maybe", "stop", False, "is none of the choices"),
    "grammar": (ResponseFormat("grammar", "root ::= x"), "y", "stop", True, None),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_is_told(name: str) -> None:
    wanted, text, reason, thorough, expected = CASES[name]
    found = await find_violation(text, wanted, reason, thorough=thorough)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert expected in found


async def test_a_pattern_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "CHECK_SECONDS", 0.5)
    with anyio.fail_after(30):
        wanted = ResponseFormat("regex", "(a+)+b")
        assert await find_violation("a" * 60, wanted, "stop", thorough=True) is None


async def test_nothing_is_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("jsonschema", "json", "ollm_daemon"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    assert await find_violation("y", ResponseFormat("regex", "x"), "stop", thorough=True) is not None
