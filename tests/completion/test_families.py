"""Prompts of each family, to the character, and which models belong to one."""

from __future__ import annotations

import re

import pytest

from ollm_daemon.completion.families import FAMILIES, MARKS, Family, build_prompt, find_family
from ollm_daemon.domain import ContextFile

EXTRA = (ContextFile("b.py", "B"), ContextFile("c.py", "C"))
ALONE = {
    "codeqwen": "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "qwen-coder": "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "starcoder2": "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "santacoder": "<fim-prefix>P<fim-suffix>S<fim-middle>",
    "starcoder": "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "codellama": "<PRE> P <SUF>S <MID>",
    "deepseek-coder-v2": "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>",
    "deepseek-coder": "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>",
    "codestral": "[SUFFIX]S[PREFIX]P",
    "codegemma": "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "granite-4": "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "granite": "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "stable-code": "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "seed-coder": "<[fim-suffix]>S<[fim-prefix]>P<[fim-middle]>",
    "refact": "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "codegeex4": "<|user|>\n###PATH:a.py\n###LANGUAGE:\n###MODE:BLOCK\n"
    "<|code_suffix|>S<|code_prefix|>P<|code_middle|><|assistant|>\n",
    "mellum": "<fim_suffix>S<fim_prefix>P<fim_middle>",
    "glm-4": "<|code_prefix|>P<|code_suffix|>S<|code_middle|>",
    "aixcoder": "▁<AIX-SPAN-PRE>▁<AIX-SPAN-POST>S▁<AIX-SPAN-MIDDLE>P",
    "falcon-h1-coder": "<|prefix|>P<|suffix|>S<|middle|>",
}
AMONG_OTHERS = {
    "qwen-coder": "<|repo_name|>R\n<|file_sep|>b.py\nB\n<|file_sep|>c.py\nC\n<|file_sep|>a.py\n"
    "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "starcoder2": "<repo_name>R<file_sep>b.py\nB\n<file_sep>c.py\nC\n<file_sep>"
    "<fim_prefix>a.py\nP<fim_suffix>S<fim_middle>",
    "starcoder": "<reponame>R<filename>b.py\nB\n<filename>c.py\nC\n<filename>a.py\n"
    "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "deepseek-coder": "<｜fim▁begin｜>#b.py\nB\n#c.py\nC\n#a.py\nP<｜fim▁hole｜>S<｜fim▁end｜>",
    "codestral": "[SUFFIX]S[PREFIX]+++++ b.py\nB\n\n+++++ c.py\nC\n\n+++++ a.py\nP",
    "codegemma": "b.py\nB<|file_separator|>c.py\nC<|file_separator|>a.py\n"
    "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "granite-4": "<|reponame|>R\n<|filename|>b.py\nB\n<|filename|>c.py\nC\n<|filename|>a.py\n"
    "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "granite": "<reponame>R<filename>b.py\nB\n<filename>c.py\nC\n<filename>a.py\n"
    "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "seed-coder": "<[fim-suffix]>S<[fim-prefix]><filename>b.py\nB\n<filename>c.py\nC\n"
    "<filename>a.py\nP<[fim-middle]>",
    "codegeex4": "<|user|>\n###REFERENCE:\n###PATH:b.py\nB\n###REFERENCE:\n###PATH:c.py\nC\n"
    "###PATH:a.py\n###LANGUAGE:\n###MODE:BLOCK\n"
    "<|code_suffix|>S<|code_prefix|>P<|code_middle|><|assistant|>\n",
    "mellum": "<filename>b.py\nB\n<filename>c.py\nC\n<filename>a.py\n<fim_suffix>S<fim_prefix>P<fim_middle>",
}
MODELS = {
    "qwen-coder": (
        "qwen2.5-coder:7b",
        "qwen2.5-coder:1.5b-base-q4_K_M",
        "qwen3-coder:30b",
        "qwen3-coder:480b-cloud",
        "qwen3-coder-next",
        "Qwen/Qwen2.5-Coder-32B-Instruct-AWQ",
        "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8",
        "qwen2.5-coder-7b-instruct",
        "hf.co/unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF:Q4_K_M",
        "hf.co/ggml-org/Qwen2.5-Coder-1.5B-Q8_0-GGUF",
        "mlx-community/Qwen2.5-Coder-14B-4bit",
    ),
    "codeqwen": ("codeqwen:7b-code", "Qwen/CodeQwen1.5-7B"),
    "starcoder2": ("starcoder2:3b", "bigcode/starcoder2-15b", "second-state/StarCoder2-7B-GGUF"),
    "starcoder": (
        "starcoder:7b",
        "bigcode/starcoderbase-1b",
        "bigcode/tiny_starcoder_py",
        "bigcode/octocoder",
    ),
    "santacoder": ("bigcode/santacoder", "bigcode/gpt_bigcode-santacoder"),
    "codellama": (
        "codellama:7b-code",
        "codellama/CodeLlama-13b-hf",
        "code-llama",
        "TheBloke/CodeLlama-7B-GGUF",
    ),
    "deepseek-coder-v2": (
        "deepseek-coder-v2:16b",
        "deepseek-ai/DeepSeek-Coder-V2-Lite-Base",
        "deepseek-v2.5",
        "deepseek-ai/DeepSeek-V3",
    ),
    "deepseek-coder": (
        "deepseek-coder:6.7b-base",
        "deepseek-ai/deepseek-coder-1.3b-base",
        "TheBloke/deepseek-coder-33B-instruct-GGUF",
    ),
    "codestral": (
        "codestral:22b",
        "codestral-latest",
        "codestral-2508",
        "mistralai/Codestral-22B-v0.1",
        "lmstudio-community/Codestral-22B-v0.1-GGUF",
    ),
    "codegemma": ("codegemma:2b-code", "google/codegemma-7b", "bartowski/codegemma-2b-GGUF"),
    "granite-4": (
        "granite4:micro",
        "granite4:tiny-h",
        "ibm-granite/granite-4.0-h-tiny",
        "ibm/granite-4-h-tiny",
        "ibm-granite/granite-4.1-3b",
    ),
    "granite": (
        "granite-code:8b",
        "ibm-granite/granite-8b-code-base-4k",
        "granite3.3:8b",
        "ibm-granite/granite-3.3-8b-base",
    ),
    "stable-code": ("stable-code:3b", "stabilityai/stable-code-3b"),
    "seed-coder": ("ByteDance-Seed/Seed-Coder-8B-Base", "hf.co/unsloth/Seed-Coder-8B-Instruct-GGUF"),
    "refact": ("smallcloudai/Refact-1_6B-fim", "refact-1.6b"),
    "codegeex4": ("codegeex4:9b", "THUDM/codegeex4-all-9b", "codegeex-4"),
    "mellum": ("JetBrains/Mellum-4b-base", "hf.co/JetBrains/Mellum-4b-sft-python-gguf:Q8_0"),
    "glm-4": ("glm4:9b", "zai-org/GLM-4.5-Air", "THUDM/GLM-4-32B-0414"),
    "aixcoder": ("aiXcoder/aixcoder-7b-base",),
    "falcon-h1-coder": ("tiiuae/Falcon-H1-Tiny-Coder-90M",),
}
NONE = (
    "llama3.2:3b",
    "qwen2.5:7b",
    "qwen3:8b",
    "Qwen/Qwen2.5-7B-Instruct",
    "gemma3:4b",
    "gemma3",
    "mistral-nemo",
    "mistral:7b",
    "mistral-small",
    "devstral:24b",
    "codestral-mamba",
    "mistralai/Mamba-Codestral-7B-v0.1",
    "codestral-embed",
    "codellama:34b-instruct",
    "codellama:7b-python",
    "phind-codellama:34b-v2",
    "phi4",
    "phi3:mini",
    "gpt-oss:20b",
    "gpt-4o",
    "deepseek-r1:8b",
    "deepseek-r1-distill-qwen-7b",
    "granite3.1-dense:8b",
    "granite-embedding:30m",
    "ibm-granite/granite-guardian-3.3-8b",
    "ibm-granite/granite-4.0-vision",
    "yi:6b",
    "opencoder:8b",
    "infly/OpenCoder-8B-Instruct",
    "smollm2:135m",
    "command-r",
    "zed-industries/zeta",
    "chatglm4",
    "glm-4v",
    "falcon3:7b",
    "nomic-embed-text",
    "",
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_prompt_for_one_file(family: Family) -> None:
    assert build_prompt(family, "P", "S", path="a.py") == ALONE[family.name]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_prompt_with_other_files(family: Family) -> None:
    prompt = build_prompt(family, "P", "S", path="a.py", repository="R", extra=EXTRA)
    assert prompt == AMONG_OTHERS.get(family.name, ALONE[family.name])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_record_is_complete(family: Family) -> None:
    assert family.source
    assert bool(family.file) is bool(family.among)
    forms = family.form + family.among + family.file
    marks = set(re.findall(r"<[^<>\s{}]+>|\[[A-Z]+\]", forms))
    assert marks <= set(family.stops)
    assert family is next(one for one in FAMILIES if one.name == family.name)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_marks_in_the_users_text_are_broken_up(family: Family) -> None:
    plain = build_prompt(family, "P", "S", path="a.py", repository="R", extra=EXTRA)
    evil = "".join(family.stops) + "{suffix}{files}"
    prompt = build_prompt(
        family, evil, evil, path=evil, repository=evil, extra=(ContextFile(evil, evil), EXTRA[1])
    )
    for mark in family.stops:
        assert prompt.count(mark) == plain.count(mark)
    assert "{suffix}" in prompt


def test_nothing_is_lost_of_text_without_marks() -> None:
    text = "a < b | c > d\n\t[x] {prefix} \\1 \r\n漢字 <|other|>"
    for family in FAMILIES:
        prompt = build_prompt(family, text, "S")
        assert text in prompt


@pytest.mark.parametrize(
    ("name", "model"), [(name, model) for name, models in MODELS.items() for model in models]
)
def test_models_of_a_family(name: str, model: str) -> None:
    family = find_family(model)
    assert family
    assert family.name == name


@pytest.mark.parametrize("model", NONE)
def test_models_without_infill(model: str) -> None:
    assert find_family(model) is None


def test_every_family_has_a_model_and_its_own_name_finds_it() -> None:
    assert MODELS.keys() == ALONE.keys() == {family.name for family in FAMILIES}
    assert sum(len(models) for models in MODELS.values()) + len(NONE) >= 60


def test_marks_that_leak_are_those_of_all_families_but_for_what_people_write() -> None:
    assert {"<|fim_middle|>", "<EOT>", "<｜fim▁end｜>", "<|fim▁end|>", "[SUFFIX]", "<[fim-middle]>"} <= MARKS
    assert "<filename>" not in MARKS
