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
        form: The prompt, with `{prefix}` and `{suffix}`.
        file: One more file, with `{path}` and `{text}`; empty when the family knows one file only.
        head: What comes before all files, with `{repository}`.
        here: What comes before the marks of the file at the cursor when there are others, with `{path}`.
        stops: Texts that end the answer; marks that leak into it.
        source: Where the marks are documented.
    """

    name: str
    pattern: str
    form: str
    stops: tuple[str, ...]
    source: str
    file: str = ""
    head: str = ""
    here: str = ""


_QWEN_MARKS = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>")
_FILE_SEP = "<|file_sep|>"

FAMILIES: tuple[Family, ...] = (
    Family(
        "qwen-coder",
        r"qwen[-_ ]?(2\.5|3)?[-_ ]?coder|codeqwen|qwen3-next-coder",
        "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        (*_QWEN_MARKS, "<|repo_name|>", _FILE_SEP, "<|im_start|>", "<|im_end|>"),
        "QwenLM/Qwen2.5-Coder README, Fill in the middle and repository level completion",
        file=_FILE_SEP + "{path}\n{text}\n",
        head="<|repo_name|>{repository}\n",
        here=_FILE_SEP + "{path}\n",
    ),
    Family(
        "starcoder2",
        r"starcoder[-_ ]?2|starcoder2",
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        ("<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>", "<file_sep>"),
        "StarCoder 2 paper (arXiv 2402.19173), section 5.1",
        file="<file_sep>{path}\n{text}\n",
        head="<repo_name>{repository}\n",
        here="<file_sep>{path}\n",
    ),
    Family(
        "starcoder",
        r"starcoder|santacoder|starchat|tiny[-_]starcoder|octocoder",
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        ("<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>", "<filename>"),
        "bigcode/starcoder model card, Fill-in-the-middle",
        file="<filename>{path}\n{text}\n",
        head="<reponame>{repository}",
        here="<filename>{path}\n",
    ),
    Family(
        "codellama",
        r"code[-_ ]?llama",
        "<PRE> {prefix} <SUF>{suffix} <MID>",
        ("<EOT>", "<PRE>", "<SUF>", "<MID>", "</s>"),
        "facebookresearch/codellama, llama/generation.py infilling_prompt_tokens",
    ),
    Family(
        "deepseek-coder-v2",
        r"deepseek[-_ ]?coder[-_ ]?v2",
        "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜end▁of▁sentence｜>", "<|eos_token|>"),
        "deepseek-ai/DeepSeek-Coder-V2 README, Code Insertion",
    ),
    Family(
        "deepseek-coder",
        r"deepseek[-_ ]?(coder|v2|v3)",
        "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜end▁of▁sentence｜>", "<|EOT|>"),
        "deepseek-ai/DeepSeek-Coder README, Code Insertion and Repository Level Code Completion",
        file="#{path}\n{text}\n",
        here="#{path}\n",
    ),
    Family(
        "codestral",
        r"codestral|devstral|mistral.*fim|mamba[-_ ]?codestral",
        "[SUFFIX]{suffix}[PREFIX]{prefix}",
        ("[PREFIX]", "[SUFFIX]", "[MIDDLE]", "</s>", "[INST]"),
        "mistralai/mistral-common, tokens/tokenizers/instruct.py encode_fim",
        file="+++++ {path}\n{text}\n",
        here="+++++ {path}\n",
    ),
    Family(
        "codegemma",
        r"code[-_ ]?gemma",
        "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", _FILE_SEP, "<end_of_turn>", "<eos>"),
        "google/codegemma model card, Fill-in-the-middle",
        file=_FILE_SEP + "{path}\n{text}\n",
        here=_FILE_SEP + "{path}\n",
    ),
    Family(
        "granite",
        r"granite[-_.0-9]*.*(code|[34]\.\d)|granite-?4|granite-code",
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        ("<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|end_of_text|>", "<filename>"),
        "ibm-granite/granite-8b-code-base tokenizer_config.json",
        file="<filename>{path}\n{text}\n",
        here="<filename>{path}\n",
    ),
    Family(
        "stable-code",
        r"stable[-_ ]?code",
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        ("<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"),
        "stabilityai/stable-code-3b model card, Run with Fill in Middle",
    ),
    Family(
        "seed-coder",
        r"seed[-_ ]?(coder|oss)",
        "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
        ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>", "<[end▁of▁sentence]>"),
        "ByteDance-Seed/Seed-Coder README, Fill-in-the-Middle",
    ),
    Family(
        "refact",
        r"refact[-_ ]?(1|ai|code)|smallcloudai",
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        ("<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        "smallcloudai/Refact-1_6B-fim model card",
    ),
    Family(
        "codegeex4",
        r"codegeex",
        "<|user|>\n<|code_suffix|>{suffix}<|code_prefix|>{prefix}<|code_middle|><|assistant|>\n",
        (
            "<|endoftext|>",
            "<|user|>",
            "<|assistant|>",
            "<|code_suffix|>",
            "<|code_prefix|>",
            "<|code_middle|>",
        ),
        "THUDM/CodeGeeX4 guides/Infilling_guideline.md",
    ),
    Family(
        "zeta-2",
        r"zeta",
        "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
        ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>"),
        "zed-industries/zeta-2 model card (based on Seed-Coder)",
    ),
    Family(
        "mellum",
        r"mellum",
        "<fim_suffix>{suffix}<fim_prefix>{prefix}<fim_middle>",
        ("<|endoftext|>", "<fim_suffix>", "<fim_prefix>", "<fim_middle>", "<filename>"),
        "JetBrains/Mellum-4b-base model card, Fill in the middle generation",
        file="<filename>{path}\n{text}\n",
        here="<filename>{path}\n",
    ),
    Family(
        "glm-4",
        r"glm[-_]?4|codegeex5",
        "<|code_prefix|>{prefix}<|code_suffix|>{suffix}<|code_middle|>",
        ("<|endoftext|>", "<|user|>", "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
        "zai-org/GLM-4.5 tokenizer_config.json",
    ),
    Family(
        "yi-coder",
        r"yi[-_ ]?coder",
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        ("<|endoftext|>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        "01-ai/Yi-Coder README",
    ),
)


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
    parts = []
    if extra and family.file:
        parts.append(_fill(family.head, repository=repository or "project"))
        parts += [_fill(family.file, path=file.path, text=_defused(file.text, family)) for file in extra]
        parts.append(_fill(family.here, path=path or "file"))
    parts.append(_fill(family.form, prefix=_defused(prefix, family), suffix=_defused(suffix, family)))
    return "".join(parts)


def _fill(form: str, **values: str) -> str:
    """The form with its names replaced, each once and whatever the values hold."""
    pattern = re.compile("|".join(rf"\{{{name}\}}" for name in values))
    return pattern.sub(lambda match: values[match[0][1:-1]], form)


def _defused(text: str, family: Family) -> str:
    for mark in family.stops:
        if mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
