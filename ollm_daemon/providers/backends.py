"""What differs between servers, as data: one record per backend, read by the dialects and by `_http`.

Behaviour depends on these facts, never on a backend's name. Every fact was read in the server's
source or seen on the wire; the version is in the comment beside it. Adding a backend is one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FormatRoute = Literal[
    "response_format", "response_format_schema", "response_format_json", "grammar", "regex_pattern"
]
"""How a server takes a constraint: OpenAI's `response_format`; the same where only `json_schema`
exists; the same where any JSON is called `json`; llama.cpp's `grammar`; TabbyAPI's `regex_pattern`."""

_OPENAI_FORMATS: Mapping[str, FormatRoute] = {
    "json": "response_format",
    "jsonSchema": "response_format",
}


@dataclass(frozen=True, slots=True)
class Backend:
    """Facts about one kind of server.

    Attributes:
        title: The name its users know.
        default_url: Where it listens unless told otherwise; ports collide, so this proves nothing.
        start: The sentence that says how to start it.
        get_model: The sentence that says how to get a model; `{model}` is filled in.
        key_variable: Environment variable our users put its key in.
        requires_max_tokens: The server fails, or stops after 16 tokens, without a limit.
        sends_usage: The server understands `stream_options.include_usage`.
        max_stop: Most stop strings it accepts; `None` where there is no limit.
        unsupported: Our option names it refuses or ignores; they are left out.
        renamed: Our option names under its own spelling.
        formats: Constraint types it can apply, and by which route.
        tools: Whether it has tool calling at all.
        length_means_stop: `finish_reason` "length" also stands for a stop string that was hit.
        error_text: A first text with this prefix is an error message, not an answer.
    """

    title: str
    default_url: str
    start: str
    get_model: str = ""
    key_variable: str = "OPENAI_COMPATIBLE_API_KEY"
    requires_max_tokens: bool = False
    sends_usage: bool = True
    max_stop: int | None = None
    unsupported: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, FormatRoute] = field(default_factory=lambda: _OPENAI_FORMATS)
    tools: bool = True
    length_means_stop: bool = False
    error_text: str | None = None

    @property
    def title_first(self) -> str:
        """The title at the beginning of a sentence."""
        return self.title.replace("the ", "The ", 1) if self.title.startswith("the ") else self.title


BACKENDS: Mapping[str, Backend] = {
    "ollama": Backend(
        title="Ollama",
        default_url="http://localhost:11434",
        start="Start it with `ollama serve`.",
        get_model="Get it with `ollama pull {model}`.",
        formats={"json": "response_format", "jsonSchema": "response_format"},
    ),
    "vllm": Backend(
        title="vLLM",
        default_url="http://localhost:8000",
        start="Start it with `vllm serve MODEL`.",
        get_model="vLLM serves the models it was started with; see `ollm models`.",
        key_variable="VLLM_API_KEY",
        max_stop=4,  # VLLM_MAX_STOP_STRINGS, 0.28
        renamed={"repeat_penalty": "repetition_penalty"},
    ),
    "lmstudio": Backend(
        title="LM Studio",
        default_url="http://localhost:1234",
        start="Start its server on the Developer page or with `lms server start`.",
        get_model="Get it in LM Studio or with `lms get {model}`.",
        # json_object answers 400 (lmstudio bug-tracker #189).
        formats={"json": "response_format_schema", "jsonSchema": "response_format"},
    ),
    "localai": Backend(
        title="LocalAI",
        default_url="http://localhost:8080",
        start="Start it with `local-ai run`.",
        get_model="Install it with `local-ai models install {model}`.",
        formats={**_OPENAI_FORMATS, "grammar": "grammar"},
        error_text="Internal error: ",  # v3.8 to v4.0 send errors as text
    ),
    "textgen": Backend(
        title="text-generation-webui",
        default_url="http://localhost:5000",
        start="Start it with `python server.py --api`.",
        get_model="Load a model on its Model page.",
        renamed={"repeat_penalty": "repetition_penalty"},
        formats={"grammar": "grammar"},  # response_format does not exist (v4.9)
    ),
    "koboldcpp": Backend(
        title="KoboldCpp",
        default_url="http://localhost:5001",
        start="Start it with `koboldcpp --model FILE.gguf`.",
        get_model="KoboldCpp serves the one model it was started with.",
        formats={**_OPENAI_FORMATS, "grammar": "grammar"},
        length_means_stop=True,  # v1.115: `stop` only for the model's own end token
    ),
    "llamacpp": Backend(
        title="llama.cpp",
        default_url="http://localhost:8080",
        start="Start it with `llama-server -m FILE.gguf`.",
        get_model="llama.cpp serves the model it was started with.",
        formats={**_OPENAI_FORMATS, "grammar": "grammar"},
    ),
    "aphrodite": Backend(
        title="Aphrodite",
        default_url="http://localhost:2242",
        start="Start it with `aphrodite run MODEL`.",
        max_stop=4,  # APHRODITE_MAX_STOP_STRINGS, 0.24
        renamed={"repeat_penalty": "repetition_penalty"},
    ),
    "tabbyapi": Backend(
        title="TabbyAPI",
        default_url="http://localhost:5000",
        start="Start it with `python start.py`.",
        get_model="Load it through TabbyAPI's config.yml.",
        requires_max_tokens=True,
        renamed={"repeat_penalty": "repetition_penalty"},
        formats={
            "json": "response_format_json",  # json_object is not a known type
            "jsonSchema": "response_format",
            "regex": "regex_pattern",
        },
    ),
    "fastchat": Backend(
        title="FastChat",
        default_url="http://localhost:8000",
        start="Start its controller, a model worker and `fastchat.serve.openai_api_server`.",
        get_model="FastChat serves what its running workers loaded; see `ollm models`.",
        sends_usage=False,
        unsupported=frozenset({"min_p", "seed", "repeat_penalty"}),
        formats={},  # response_format is dropped in silence (0.2.36)
        tools=False,
    ),
    "embedded": Backend(
        title="the embedded model",
        default_url="http://127.0.0.1:1",
        start="",
        formats={**_OPENAI_FORMATS, "grammar": "grammar"},
    ),
    "generic": Backend(
        title="the OpenAI-compatible server",
        default_url="http://localhost:1234",
        start="Start it, or correct `baseUrl`.",
    ),
}

DEFAULT_MAX_TOKENS = 4096
"""Sent where a server needs a limit and the user gave none."""
