"""How each family of code models marks prefix, suffix and other files in one prompt: data, with sources.

Servers that take prefix and suffix apart need none of this. A family is found by the model's name, the
first match in the table; a name that matches nothing has no infill.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ollm_daemon.domain import ContextFile


@dataclass(frozen=True, slots=True)
class Family:
    """Marks of one family.

    Attributes:
        pattern: What its models' names match, in lower case.
        form: The prompt, with `{prefix}`, `{suffix}` and, where the family wants it, `{path}`.
        stops: Texts that end the answer; marks that leak into it.
        source: Where the marks and their order are documented.
        file: One more file, with `{path}` and `{text}`; empty when the family knows one file only.
        among: The prompt when there are other files, also with `{files}`, `{path}` and `{repository}`.
    """

    name: str
    pattern: str
    form: str
    stops: tuple[str, ...]
    source: str
    file: str = ""
    among: str = ""


_PIPED = "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"
_PIPED_MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_PLAIN = "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>"
_PLAIN_MARKS = ("<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>")
_DEEPSEEK = "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>"
_DEEPSEEK_MARKS = ("<｜end▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
_NO_CODE = r"(?!.*(embed|guardian|vision|speech|docling|rerank))"

FAMILIES: tuple[Family, ...] = (
    Family(
        "codeqwen",
        r"codeqwen",
        _PLAIN,
        (*_PLAIN_MARKS, "<file_sep>", "<|im_start|>", "<|im_end|>"),
        "QwenLM/CodeQwen1.5 examples/CodeQwen1.5-base-fim.py; without the pipes of Qwen2.5-Coder",
    ),
    Family(
        "qwen-coder",
        r"qwen[-_ ]?(2\.5|3)?[-_ ]?(next[-_ ])?coder",
        _PIPED,
        (
            "<|endoftext|>",
            *_PIPED_MARKS,
            "<|fim_pad|>",
            "<|repo_name|>",
            "<|file_sep|>",
            "<|im_start|>",
            "<|im_end|>",
        ),
        "QwenLM/Qwen3-Coder README, Fill in the middle; examples/Qwen2.5-Coder-repolevel-fim.py",
        file="<|file_sep|>{path}\n{text}\n",
        among="<|repo_name|>{repository}\n{files}<|file_sep|>{path}\n" + _PIPED,
    ),
    Family(
        "starcoder2",
        r"starcoder[-_ ]?2",
        _PLAIN,
        (*_PLAIN_MARKS, "<file_sep>", "<repo_name>"),
        "StarCoder 2 paper (arXiv 2402.19173), section 5.1: the path stands behind <fim_prefix>",
        file="<file_sep>{path}\n{text}\n",
        among="<repo_name>{repository}{files}<file_sep>"
        "<fim_prefix>{path}\n{prefix}<fim_suffix>{suffix}<fim_middle>",
    ),
    Family(
        "santacoder",
        r"santacoder",
        "<fim-prefix>{prefix}<fim-suffix>{suffix}<fim-middle>",
        ("<|endoftext|>", "<fim-prefix>", "<fim-suffix>", "<fim-middle>", "<fim-pad>"),
        "bigcode/santacoder model card, Fill-in-the-middle: hyphens, unlike StarCoder",
    ),
    Family(
        "starcoder",
        r"starcoder|starchat|octocoder",
        _PLAIN,
        (*_PLAIN_MARKS, "<filename>", "<reponame>"),
        "bigcode/starcoder model card, Fill-in-the-middle",
        file="<filename>{path}\n{text}\n",
        among="<reponame>{repository}{files}<filename>{path}\n" + _PLAIN,
    ),
    Family(
        "codellama",
        r"code[-_ ]?llama(?!.*(34b|python))",
        "<PRE> {prefix} <SUF>{suffix} <MID>",
        ("<EOT>", "<PRE>", "<SUF>", "<MID>", "</s>"),
        "meta-llama/codellama llama/generation.py infilling_prompt_tokens; not trained in 34B and Python",
    ),
    Family(
        "deepseek-coder-v2",
        r"deepseek[-_ ]?coder[-_ ]?v2|deepseek[-_ ]?v(2\.5|3)",
        _DEEPSEEK,
        (*_DEEPSEEK_MARKS, "<|eos_token|>"),
        "deepseek-ai/DeepSeek-Coder-V2 README, Code Insertion; DeepSeek-V3 report (arXiv 2412.19437), 4.1",
    ),
    Family(
        "deepseek-coder",
        r"deepseek[-_ ]?coder",
        _DEEPSEEK,
        (*_DEEPSEEK_MARKS, "<|EOT|>"),
        "deepseek-ai/DeepSeek-Coder README, Code Insertion and Repository Level Code Completion",
        file="#{path}\n{text}\n",
        among="<｜fim▁begin｜>{files}#{path}\n{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
    ),
    Family(
        "codestral",
        r"(?<!mamba-)codestral(?!.*(mamba|embed))",
        "[SUFFIX]{suffix}[PREFIX]{prefix}",
        ("[PREFIX]", "[SUFFIX]", "[MIDDLE]", "</s>", "[INST]"),
        "mistralai/mistral-common tests of encode_fim; other files as continuedev/continue sends them",
        file="+++++ {path}\n{text}\n\n",
        among="[SUFFIX]{suffix}[PREFIX]{files}+++++ {path}\n{prefix}",
    ),
    Family(
        "codegemma",
        r"code[-_ ]?gemma",
        _PIPED,
        (*_PIPED_MARKS, "<|file_separator|>", "<end_of_turn>", "<eos>"),
        "google/codegemma model card; CodeGemma report (arXiv 2406.11409), figure 3, for several files",
        file="{path}\n{text}<|file_separator|>",
        among="{files}{path}\n" + _PIPED,
    ),
    Family(
        "granite-4",
        _NO_CODE + r"granite[-_ ]?4",
        _PIPED,
        ("<|end_of_text|>", *_PIPED_MARKS, "<|fim_pad|>", "<|filename|>", "<|reponame|>", "<|endoftext|>"),
        "ibm.com/granite/docs/models/granite#fim; added tokens of ibm-granite/granite-4.0",
        file="<|filename|>{path}\n{text}\n",
        among="<|reponame|>{repository}\n{files}<|filename|>{path}\n" + _PIPED,
    ),
    Family(
        "granite",
        _NO_CODE + r"granite([-_ ]?3\.3|.*[-_ ]code)",
        _PLAIN,
        (*_PLAIN_MARKS, "<filename>", "<reponame>", "<|end_of_text|>"),
        "ibm-granite/granite-3.3-8b-base tokenizer_config.json (ggml-org/llama.cpp pull request 12988)",
        file="<filename>{path}\n{text}\n",
        among="<reponame>{repository}{files}<filename>{path}\n" + _PLAIN,
    ),
    Family(
        "stable-code",
        r"stable[-_ ]?code",
        _PLAIN,
        (*_PLAIN_MARKS, "<file_sep>"),
        "stabilityai/stable-code-3b model card, Run with Fill in Middle",
    ),
    Family(
        "seed-coder",
        r"seed[-_ ]?coder",
        "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
        ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>", "<[end▁of▁sentence]>", "<filename>"),
        "ByteDance-Seed/Seed-Coder report, suffix first; <filename> as zed-industries/zed uses it",
        file="<filename>{path}\n{text}\n",
        among="<[fim-suffix]>{suffix}<[fim-prefix]>{files}<filename>{path}\n{prefix}<[fim-middle]>",
    ),
    Family(
        "refact",
        r"refact[-_ ]?(1|ai|code)|smallcloudai",
        _PLAIN,
        _PLAIN_MARKS,
        "smallcloudai/Refact-1_6B-fim model card",
    ),
    Family(
        "codegeex4",
        r"codegeex[-_ ]?4",
        "<|user|>\n###PATH:{path}\n###LANGUAGE:\n###MODE:BLOCK\n"
        "<|code_suffix|>{suffix}<|code_prefix|>{prefix}<|code_middle|><|assistant|>\n",
        (
            "<|endoftext|>",
            "<|user|>",
            "<|assistant|>",
            "<|code_suffix|>",
            "<|code_prefix|>",
            "<|code_middle|>",
        ),
        "THUDM/CodeGeeX4 guides/Infilling_guideline.md, whose language may be left empty",
        file="###REFERENCE:\n###PATH:{path}\n{text}\n",
        among="<|user|>\n{files}###PATH:{path}\n###LANGUAGE:\n###MODE:BLOCK\n"
        "<|code_suffix|>{suffix}<|code_prefix|>{prefix}<|code_middle|><|assistant|>\n",
    ),
    Family(
        "mellum",
        r"mellum",
        "<fim_suffix>{suffix}<fim_prefix>{prefix}<fim_middle>",
        (*_PLAIN_MARKS, "<filename>"),
        "JetBrains/Mellum-4b-base model card, Fill in the middle generation: suffix first",
        file="<filename>{path}\n{text}\n",
        among="{files}<filename>{path}\n<fim_suffix>{suffix}<fim_prefix>{prefix}<fim_middle>",
    ),
    Family(
        "glm-4",
        r"(?<!chat)glm[-_ ]?4(?!.*v\b)",
        "<|code_prefix|>{prefix}<|code_suffix|>{suffix}<|code_middle|>",
        ("<|endoftext|>", "<|user|>", "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
        "ggml-org/llama.cpp src/llama-vocab.cpp (GLM-4.5); zed-industries/zed edit_prediction/src/fim.rs",
    ),
    Family(
        "aixcoder",
        r"aixcoder",
        "▁<AIX-SPAN-PRE>▁<AIX-SPAN-POST>{suffix}▁<AIX-SPAN-MIDDLE>{prefix}",
        ("</s>", "<AIX-SPAN-PRE>", "<AIX-SPAN-POST>", "<AIX-SPAN-MIDDLE>"),
        "aixcoder-plugin/aiXcoder-7B README, fill in the middle, SPM mode",
    ),
    Family(
        "falcon-h1-coder",
        r"falcon[-_ ]?h1.*coder",
        "<|prefix|>{prefix}<|suffix|>{suffix}<|middle|>",
        ("<|endoftext|>", "<|prefix|>", "<|suffix|>", "<|middle|>"),
        "tiiuae/Falcon-H1-Tiny-Coder-90M tokenizer_config.json (ggml-org/llama.cpp pull request 19249)",
    ),
)

_ORDINARY = frozenset({"<filename>", "<reponame>"})
"""Marks that people write too, in `usage: run <filename>`."""
MARKS = frozenset(
    spelling
    for family in FAMILIES
    for mark in family.stops
    if mark not in _ORDINARY
    for spelling in (mark, mark.replace("｜", "|"))
)
"""What leaks into an answer when a server does not know the model's marks; also with a plain bar."""


def find_family(model: str) -> Family | None:
    """The family a model's name belongs to, if it is one that can fill in."""
    name = model.lower()
    return next((family for family in FAMILIES if re.search(family.pattern, name)), None)


def build_prompt(
    family: Family,
    prefix: str,
    suffix: str,
    *,
    path: str = "",
    repository: str = "",
    extra: tuple[ContextFile, ...] = (),
) -> str:
    """One prompt in the family's own marks; other files only where it has a mark for them.

    Marks inside the text are broken up, so that a file about models cannot end the prompt.
    """
    texts = {
        "prefix": prefix,
        "suffix": suffix,
        "path": path or "file",
        "repository": repository or "project",
    }
    values = {name: _defused(text, family) for name, text in texts.items()}
    if not extra or not family.among:
        return _fill(family.form, **values)
    files = [
        _fill(family.file, path=_defused(file.path, family), text=_defused(file.text, family))
        for file in extra
    ]
    return _fill(family.among, files="".join(files), **values)


def _fill(form: str, **values: str) -> str:
    """The form with its names replaced, each once and whatever the values hold."""
    pattern = re.compile("|".join(rf"\{{{name}\}}" for name in values))
    return pattern.sub(lambda match: values[match[0][1:-1]], form)


def _defused(text: str, family: Family) -> str:
    for mark in family.stops:
        if mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
