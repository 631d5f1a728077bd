"""The TypeScript compiler agrees with every example, and would say so if it did not."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol import generate
from tests.node import CLIENT, run_npm


def example(name: str, *path: str, **changes: Any) -> generate.Example:
    """An example with the fields at `path` changed; `...` leaves one out."""
    known = next(known for known in generate.load_examples() if known.name == name)
    message = json.loads(json.dumps(known.message))
    place = message
    for key in path:
        place = place[key]
    place.update(changes)
    for key in [key for key, value in place.items() if value is ...]:
        del place[key]
    return replace(known, message=message)


@pytest.mark.slow
@pytest.mark.timeout(400, func_only=True)
def test_the_compiler_accepts_every_example_and_refuses_wrong_ones(tmp_path: Path) -> None:
    checked = run_npm("run", "check", seconds=50)
    assert checked.returncode == 0, checked.stdout

    wrong = [
        example("chat.request", "params", messages=...),
        example("chat.request.options", "params", "options", topP="high"),
        example("chat.response", "result", finishReason="tired"),
        example("completion-delta.text", "params", "delta", kind="toolCall"),
        example("status.response", "result", mood="good"),
        example("chat.error.auth", "error", "data", kind="bored"),
        example("chat.error.config", "error", code=-1),
        example("models-list.request", "params", provider=None),
    ]
    right = example("trust-get.response")
    shutil.copytree(CLIENT / "test" / "protocol", tmp_path / "test" / "protocol")
    (tmp_path / "src").mkdir()
    shutil.copy(CLIENT / "src" / "protocol.gen.ts", tmp_path / "src")
    examples = tmp_path / "test" / "protocol" / "protocol-examples.gen.ts"
    examples.write_text(generate.ts_examples([*wrong, right]), encoding="utf-8")
    project = tmp_path / "tsconfig.json"
    options = {"rootDir": ".", "types": []}
    project.write_text(
        json.dumps({"extends": str(CLIENT / "tsconfig.json"), "compilerOptions": options, "include": ["."]})
    )
    refused = run_npm(
        "exec", "--", "tsc", "--noEmit", "--pretty", "false", "--project", str(project), seconds=50
    )

    lines = examples.read_text(encoding="utf-8").splitlines()
    starts = {
        index: match[1] for index, line in enumerate(lines, 1) if (match := re.match(r'  "(.+?)": {', line))
    }
    complaints = [
        int(number) for number in re.findall(r"examples\.gen\.ts\((\d+),\d+\): error", refused.stdout)
    ]
    named = {starts[max(start for start in starts if start <= line)] for line in complaints}
    assert named == {example.name for example in wrong}, refused.stdout
