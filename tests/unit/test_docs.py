"""What the guides show is true: nothing is stale, settings load, commands parse, links lead somewhere."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import generate
from ollm_daemon import cli as daemon_cli
from ollm_daemon.client import cli
from ollm_daemon.client.arguments import check_words, make_parser
from ollm_daemon.config._yaml import parse_yaml
from ollm_daemon.config.layers import make_layer
from ollm_daemon.config.resolve import Outside, resolve
from ollm_daemon.config.settings import ConfigProblem
from ollm_daemon.daemon import default_layer
from ollm_daemon.providers._model_lists import decode_models
from ollm_daemon.providers.backends import BACKENDS
from tests.fakes.captures import FASTCHAT, LLAMA_CPP, VLLM, capture, split_answer

ROOT = generate.ROOT
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND_NAMES = ("ollm", "ollm-daemon")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language in languages:
        yield from re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def cases(*languages: str) -> list[object]:
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, *languages))
    ]


def problems(data: object) -> list[ConfigProblem]:
    """What is wrong with a layer, and with the settings that come of it; warnings of a layer count."""
    layer = make_layer("user file", data)
    settings = resolve([default_layer(), layer], Outside(read_secret=lambda path: ("key", "")))
    assert settings.provider in settings.providers or settings.provider in settings.aliases
    errors = [problem for problem in settings.problems if problem.severity == "error"]
    return [*layer.problems, *errors]


def from_vscode(settings: dict[str, object]) -> dict[str, object]:
    """Settings of VS Code as the extension hands them on; each is one that the extension has."""
    package = json.loads((ROOT / "clients/vscode/package.json").read_text(encoding="utf-8"))
    known = {key for section in package["contributes"]["configuration"] for key in section["properties"]}
    nested: dict[str, object] = {}
    for key, value in settings.items():
        assert key in known
        first, *rest = key.removeprefix("ollm.").split(".")
        if first != "daemon":
            nested[first] = {rest[0]: value} if rest else value
    return nested


@pytest.mark.parametrize("block", cases("yaml"))
def test_settings_in_yaml_load_without_a_problem(block: str) -> None:
    assert problems(parse_yaml(block).data) == []


@pytest.mark.parametrize("block", cases("json"))
def test_settings_in_json_load_without_a_problem(block: str) -> None:
    layers = json.loads(block)
    if any(key.startswith("ollm.") for key in layers):
        layers = {"userSettings": from_vscode(layers)}
    assert layers.keys() <= {"userSettings", "workspaceSettings"}
    for data in layers.values():
        assert problems(data) == []


def test_names_in_fallbacks_lead_to_a_provider() -> None:
    for page in PAGES:
        for block in blocks(page, "yaml"):
            settings = resolve([default_layer(), make_layer("user file", parse_yaml(block).data)])
            known = settings.providers.keys() | settings.aliases.keys()
            for name, others in settings.fallbacks.items():
                assert name in known
                assert {other.partition("/")[0] for other in others} <= known


# commands


def commands(page: Path) -> Iterator[str]:
    """Lines and inline code that call a command of ours, without what is piped into or out of it."""
    for block in blocks(page, "console"):
        for line in re.sub(r" \\\n\s*", " ", block).splitlines():
            if line.startswith("$ "):
                yield from (part.strip() for part in re.split(r"\s\|\s", line.removeprefix("$ ")))
    yield from re.findall(r"`(ollm(?:-daemon)? [^`]+)`", prose_of(page))


COMMANDS = [
    pytest.param(command, id=f"{page.relative_to(ROOT).as_posix()}: {command}")
    for page in PAGES
    for command in dict.fromkeys(commands(page))
    if command.split()[0] in COMMAND_NAMES
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses(command: str) -> None:
    program, *arguments = shlex.split(command, comments=True)
    parser = make_parser(cli.COMMANDS, "") if program == "ollm" else daemon_cli._parser()
    with (
        contextlib.suppress(SystemExit)
        if {"--help", "--version"} & {*arguments}
        else contextlib.nullcontext()
    ):
        flags = parser.parse_args(arguments)
        if program == "ollm":
            check_words(parser, flags)


# links


def anchors(page: Path) -> set[str]:
    """As GitHub names headings."""
    heads = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    index = text_of(ROOT / "docs" / "README.md")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"]({name})" in index, name


def test_every_backend_has_a_page() -> None:
    routers = {"production-stack", "vllm-router", "ray-serve"}
    pages = {page.stem for page in (ROOT / "docs" / "backends").glob("*.md")}
    assert pages == BACKENDS.keys() - routers - {"embedded", "generic"} | {"routers"}


# the matrix


def test_the_matrix_is_not_stale() -> None:
    page = text_of(ROOT / generate.PAGE)
    assert generate.fill(page) == page, "run `python docs/generate.py write`"


def test_every_table_has_a_place() -> None:
    assert re.findall(r"<!-- generated: (.+?) -->", text_of(ROOT / generate.PAGE)) == list(generate.tables())


def test_the_script_finds_one_changed_cell_and_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / generate.PAGE
    page.parent.mkdir()
    text = text_of(ROOT / generate.PAGE)
    page.write_text(text.replace("| SSE |", "| smoke |", 1), encoding="utf-8")
    assert [generate.main([word], tmp_path) for word in ("check", "write", "check", "dance")] == [1, 0, 0, 2]
    assert capsys.readouterr().out.startswith("stale: docs/matrix.md\nRun `python docs/generate.py write`.\n")
    assert text_of(page) == text


@pytest.mark.parametrize(
    ("name", "folder"), [("vllm", VLLM), ("llamacpp", LLAMA_CPP), ("fastchat", FASTCHAT)]
)
def test_a_captured_list_tells_windows_as_the_record_says(name: str, folder: str) -> None:
    models = decode_models(json.loads(split_answer(capture(folder, "v1-models"))[2]), "openai")
    assert models
    assert BACKENDS[name].lists_windows is any(model.context_length for model in models)
