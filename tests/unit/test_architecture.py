"""Rules of the code that a reader may rely on, checked by reading it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from ollm_daemon.config.options import BackendName
from ollm_daemon.errors import ErrorKind
from ollm_daemon.providers.backends import BACKENDS

ROOT = Path(__file__).parents[2] / "ollm_daemon"
MODULES = sorted(ROOT.rglob("*.py"))
MAX_MODULE_LINES = 420
MAX_FUNCTION_LINES = 60


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def uses(pattern: str) -> set[str]:
    """Modules whose code, comments and docstrings aside, matches a pattern."""
    found = set()
    for path in MODULES:
        code = ast.unparse(_without_docstrings(tree(path)))
        if re.search(pattern, code):
            found.add(name(path))
    return found


def _without_docstrings(module: ast.Module) -> ast.Module:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                part
                for part in node.body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ] or [ast.Pass()]
    return module


RULES = [
    ("httpx", r"\bhttpx\b", {"providers/_http.py", "providers/_transport.py", "providers/_upstream.py"}),
    ("the environment", r"\bos\.(environ|getenv)\b", {"config/sources.py", "client/cli.py"}),
    ("pygls and lsprotocol", r"\b(pygls|lsprotocol)\b(?!')", {"server/lsp.py"}),
    (
        "outgoing sockets",
        r"create_connection|open_connection\b(?!s)",
        {"providers/_transport.py", "discovery.py", "client/_client.py"},
    ),
    ("tasks outside a task group", r"asyncio\.(create_task|ensure_future)|loop\.create_task", set()),
    ("printing", r"(?<![.\w])print\(", set()),
]


@pytest.mark.parametrize(("what", "pattern", "allowed"), RULES, ids=[rule[0] for rule in RULES])
def test_only_these_modules_know(what: str, pattern: str, allowed: set[str]) -> None:
    assert uses(pattern) - {"logs.py"} == allowed


def test_a_backend_is_named_in_its_record_and_nowhere_else() -> None:
    names = "|".join(sorted(set(BACKENDS) - {"generic", "embedded", "ollama", "vllm"}))
    named = uses(rf"['\"]({names})['\"]")
    records = {"providers/backends.py", "providers/_vllm_records.py"}
    assert named == records | {"config/options.py", "config/resolve.py"}


def test_every_backend_can_be_configured() -> None:
    own_kind = {"ollama", "vllm", "embedded"}
    assert set(get_args(BackendName)) == set(BACKENDS) - own_kind | {"auto", "kobold"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_documented_and_of_one_piece(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    module = tree(path)
    assert ast.get_docstring(module), "no module docstring"
    assert source.count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_nothing_mutable_is_global() -> None:
    mutable = (ast.Dict, ast.List, ast.Set, ast.ListComp, ast.DictComp)
    found = []
    for path in MODULES:
        for node in tree(path).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, mutable):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if (
                    isinstance(target, ast.Name)
                    and target.id != "__all__"
                    and not target.id.strip("_").isupper()
                ):
                    found.append(f"{name(path)}: {target.id}")
    assert found == ["providers/_embedded_server.py: _kept_alive"]


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    import ollm_daemon.errors as errors

    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    real = {
        cls.__name__
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.OllmError) and cls is not errors.OllmError
    }
    assert drawn == real
    assert len(ErrorKind) == len(set(ErrorKind))
