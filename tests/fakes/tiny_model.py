"""A language model of half a megabyte with random weights: nonsense as text, real as a server's model.

It has what the wire needs and nothing else: a byte-level vocabulary, a ChatML template and tokens for
filling in the middle. Written in about a second, the same bytes each time.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

CONTEXT = 2048
"""Tokens the model was "trained" with."""

_WIDTH, _HIDDEN, _HEADS, _LAYERS = 64, 128, 2, 2
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_FILL_IN = {
    gguf.Keys.Tokenizer.FIM_PRE_ID: "<|fim_prefix|>",
    gguf.Keys.Tokenizer.FIM_SUF_ID: "<|fim_suffix|>",
    gguf.Keys.Tokenizer.FIM_MID_ID: "<|fim_middle|>",
    gguf.Keys.Tokenizer.FIM_PAD_ID: "<|fim_pad|>",
    gguf.Keys.Tokenizer.FIM_REP_ID: "<|repo_name|>",
    gguf.Keys.Tokenizer.FIM_SEP_ID: "<|file_sep|>",
}
_WORDS = ("the", "and", "def", "return", "import", "print", "user", "assistant", "system", "name")
_SPACE, _NEWLINE, _TAB = "\u0120", "\u010a", "\u0109"  # as byte-level vocabularies spell them
_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_model(path: Path) -> Path:
    """Write the model to `path` and return it."""
    special = [*_CONTROL, *_FILL_IN.values()]
    pieces, merges = _vocabulary()
    tokens = special + pieces
    end = tokens.index("<|im_end|>")

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_block_count(_LAYERS)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(special) + [gguf.TokenType.NORMAL] * len(pieces))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_add_bos_token(False)
    for key, token in _FILL_IN.items():
        writer.add_uint32(key, tokens.index(token))
    writer.add_chat_template(_TEMPLATE)
    for name, values in _tensors(len(tokens)).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary() -> tuple[list[str], list[str]]:
    """Every printable character, and a few words that are merged from them letter by letter."""
    letters = [chr(code) for code in range(33, 127)] + [_SPACE, _NEWLINE, _TAB]
    words: dict[str, None] = {}
    merges: dict[str, None] = {}
    for word in (prefix + word for word in _WORDS for prefix in ("", _SPACE)):
        for end in range(1, len(word)):
            merges[f"{word[:end]} {word[end]}"] = None
            words[word[: end + 1]] = None
    return letters + list(words), list(merges)


def _tensors(vocabulary: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int, scale: float) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    ones = np.ones(_WIDTH, np.float32)
    tensors = {"token_embd.weight": matrix(vocabulary, _WIDTH, 1.0)}
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        tensors[f"{block}attn_norm.weight"] = ones
        tensors[f"{block}ffn_norm.weight"] = ones
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{part}.weight"] = matrix(_WIDTH, _WIDTH, _WIDTH**-0.5)
        for part in ("ffn_gate", "ffn_up"):
            tensors[f"{block}{part}.weight"] = matrix(_HIDDEN, _WIDTH, _WIDTH**-0.5)
        tensors[f"{block}ffn_down.weight"] = matrix(_WIDTH, _HIDDEN, _HIDDEN**-0.5)
    tensors["output_norm.weight"] = ones
    tensors["output.weight"] = matrix(vocabulary, _WIDTH, 0.5)
    return tensors
