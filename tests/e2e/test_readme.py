"""What the README shows is true: its client runs, its configurations resolve, its commands are one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ollm_daemon.config._yaml import parse_yaml
from ollm_daemon.config.layers import make_layer
from ollm_daemon.config.resolve import resolve
from ollm_daemon.daemon import default_layer
from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import process_environment
from tests.fakes.upstream import Reply, ScriptedUpstream, json_reply

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_two_commands_are_one_self_contained_line_each() -> None:
    answer, tests = blocks("sh")
    for command in (answer, tests):
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .uv && ")
    assert "ollm -p " in answer
    assert tests.rstrip().endswith("python -m tests")


@pytest.mark.parametrize("text", blocks("yaml"))
def test_the_configurations_resolve_without_a_problem(text: str) -> None:
    settings = resolve([default_layer(), make_layer("user file", parse_yaml(text).data)])
    assert [str(problem) for problem in settings.problems if problem.severity == "error"] == []
    assert settings.provider in settings.providers


def test_the_client_streams_an_answer(tmp_path: Path) -> None:
    replies = {
        "/api/tags": json_reply(200, {"models": [{"name": "m"}]}),
        "/api/ps": json_reply(200, {"models": []}),
        "/api/chat": Reply(capture(OLLAMA, "chat-stream")),
    }
    with ScriptedUpstream.in_thread(replies) as upstream:
        environment = process_environment(tmp_path, {"OLLAMA_HOST": upstream.url, "PYTHONWARNINGS": ""})
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        [client] = blocks("python")
        run = subprocess.run(
            [sys.executable, "-c", client],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        assert run.stdout == "The most obvious colour is white"


def test_every_file_it_names_is_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
