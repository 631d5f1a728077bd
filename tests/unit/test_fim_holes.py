"""Holes for measuring how good offers are: cut where they should be, the same for a seed, scored right."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from tests.benchmarks.fim.embedded import MARKS, write_with_marks
from tests.benchmarks.fim.holes import KINDS, Hole, choose_holes, installed_files, matching_files
from tests.benchmarks.fim.scores import filling, markdown, scores, write_json

PYTHON = '"""A module."""\n\nimport os\n\n\n' + "\n\n".join(
    f"def function_{number}(value, other):\n    total = value + other * {number}\n"
    f"    if total > {number}:\n        return os.path.join(str(total), 'x')\n    return total\n"
    for number in range(30)
)
SCRIPT = '"use strict";\n\n' + "\n".join(
    f"function f{number}(value) {{\n  const total = value + {number};\n  return total.toString();\n}}\n"
    for number in range(40)
)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for number in range(4):
        (tmp_path / f"a{number}.py").write_text(PYTHON)
        (tmp_path / f"b{number}.js").write_text(SCRIPT)
    (tmp_path / "c.min.js").write_text(SCRIPT)
    (tmp_path / "small.py").write_text("x = 1\n")
    return matching_files([str(tmp_path / "*")])


def test_a_seed_cuts_the_same_holes_in_every_kind_and_language(files: list[Path]) -> None:
    holes = choose_holes(files, 24, seed=3)
    assert holes == choose_holes(reversed(files), 24, seed=3)
    assert holes != choose_holes(files, 24, seed=4)
    kinds = [(hole.kind, hole.language) for hole in holes]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        (kind, language): 4 for kind in KINDS for language in ("python", "javascript")
    }
    assert not {hole.path.name for hole in holes} & {"c.min.js", "small.py"}
    assert all(len(hole.neighbours) == 3 and hole.path not in hole.neighbours for hole in holes)


def test_a_hole_is_what_its_kind_says(files: list[Path]) -> None:
    for hole in choose_holes(files, 60, seed=1):
        assert hole.prefix + hole.truth + hole.suffix == hole.path.read_text()
        assert hole.truth.strip()
        assert hole.suffix.startswith("\n")
        line_before = hole.prefix.rpartition("\n")[2]
        if hole.kind == "rest of line":
            assert line_before.strip()
            assert "\n" not in hole.truth
        elif hole.kind == "line":
            assert not line_before.strip()
            assert not hole.truth[0].isspace()
            assert "\n" not in hole.truth
        else:
            assert hole.prefix.rstrip()[-1] in ":{"
            assert hole.truth.count("\n") >= 1
            indents = [len(line) - len(line.lstrip()) for line in hole.truth.split("\n")[1:]]
            assert min(indents) >= len(line_before)


def test_the_machine_has_files_to_cut_from() -> None:
    assert len(choose_holes(installed_files(), 6, seed=1)) == 6


def test_nothing_to_cut_is_no_hole(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("#" * 50 + "\n" + "\n".join(["# only comments here"] * 200))
    assert choose_holes([tmp_path / "a.py"], 5, seed=1) == []
    assert choose_holes([], 5, seed=1) == []


@pytest.mark.parametrize(
    ("truth", "text", "exact", "first", "similarity"),
    [
        ("return x", "return x", 1, 1, 1.0),
        ("return x", " return x\n", 1, 1, 1.0),
        ("return x", "return x\nprint(x)", 0, 1, 0.64),
        ("return x", "return y", 0, 0, 0.875),
        ("return x", "", 0, 0, 0.0),
    ],
)
def test_scores(truth: str, text: str, exact: int, first: int, similarity: float) -> None:
    hole = Hole(Path("a.py"), "python", "line", "", truth, "")
    found = scores([filling("daemon", hole, text, 5.0)])
    assert (found["exact"], found["first line"]) == (exact, first)
    assert found["similarity"] == pytest.approx(similarity, abs=0.01)
    assert (found["empty"], found["characters"], found["mean ms"]) == (not text, len(text), 5.0)


def test_the_report_has_a_row_for_each_writer_kind_and_language(tmp_path: Path) -> None:
    holes = [Hole(Path("a.py"), "python", kind, "", "x = 1", "") for kind in KINDS]
    fillings = [filling(writer, hole, "x = 1", 2.0) for hole in holes for writer in ("plain", "daemon")]
    report = markdown({"Model": "m"}, fillings)
    assert "| all, daemon | 3 | 100% | 100% | 1.00 | 5 | 0% | 2 |" in report
    assert "| block, python, plain | 1 |" in report
    write_json(tmp_path / "f.json", {"Model": "m"}, fillings)
    document = json.loads((tmp_path / "f.json").read_text())
    assert document["scores"]["all, plain"]["exact"] == 1
    assert len(document["fillings"]) == 6


def test_marks_are_declared_in_a_copy_that_is_otherwise_the_same(tmp_path: Path, tiny_model: Path) -> None:
    plain = tmp_path / "plain.gguf"
    _write_without_marks(tiny_model, plain)
    reader = gguf.GGUFReader(write_with_marks(plain, tmp_path / "marked.gguf"))
    names = reader.fields["tokenizer.ggml.tokens"].contents()
    assert {key: names[reader.fields[key].contents()] for key in MARKS} == {
        key: new for key, (_, new) in MARKS.items()
    }
    before = gguf.GGUFReader(plain)
    assert [tensor.name for tensor in reader.tensors] == [tensor.name for tensor in before.tensors]
    assert all((one.data == two.data).all() for one, two in zip(reader.tensors, before.tensors, strict=True))
    assert reader.fields["general.name"].contents() == "tiny-random"


def _write_without_marks(source: Path, target: Path) -> None:
    """A model that has the tokens which are made marks, and no marks."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    names = list(reader.fields["tokenizer.ggml.tokens"].contents())
    for key, (old, _) in MARKS.items():
        names[reader.fields[key].contents()] = old
    writer.add_name("tiny-random")
    writer.add_token_list(names)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
