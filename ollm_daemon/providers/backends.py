"""What differs between servers, as data: one record per backend.

Behaviour depends on these facts, never on a backend's name. Every fact was read in the server's
source or documentation or seen on the wire; the version is in the comment beside it. Adding a backend
is one record here and one folder of captures.
"""

from __future__ import annotations

from collections.abc import Mapping

from ollm_daemon.providers._vllm_records import APHRODITE, PRODUCTION_STACK, RAY_SERVE, VLLM, VLLM_ROUTER
from ollm_daemon.providers.facts import (
    ALL_ACTIONS,
    ALL_FORMATS,
    ANYWHERE,
    GRAMMAR_FORMATS,
    JSON_SCHEMA,
    OPENAI_FORMATS,
    OWNER,
    Backend,
    FormatRoute,
    Job,
    Lookup,
    Sign,
    Step,
    TokenCount,
    Where,
    one_model,
    owned_by,
)

DEFAULT_MAX_TOKENS = 4096
"""Sent where a server needs a limit and the user gave none."""

_OLLAMA = Backend(
    title="Ollama",
    default_url="http://localhost:11434",
    start="Start it with `ollama serve`.",
    signs=(
        # LocalAI serves the same text when told to, and an /api/version of its own (v4.9).
        Sign(90, "/", text="Ollama is running"),
        Sign(91, "/v1/models", keys=OWNER, equals="library"),
    ),
    version=Where("/api/version", ("version",)),
    get_model="Get it with `ollm models pull {model}` or `ollama pull {model}`.",
    widen="Set `providers.{provider}.contextLength` to a larger window.",
    actions={
        "pull": Step("POST", "/api/pull", "model", "lines"),
        "delete": Step("DELETE", "/api/delete", "model"),
        "load": Step("POST", "/api/generate", "model"),
        "unload": Step("POST", "/api/generate", "model", body={"keep_alive": 0}),
    },
    lists_windows=True,  # of what is in memory (/api/ps, v0.9.7)
    formats=OPENAI_FORMATS,
    checked=frozenset({"json", "jsonSchema"}),  # a schema it cannot read is ignored under 200 (v0.33)
    names_tools=False,  # there is no tool_choice (v0.33)
    infill="suffix",
)

_LMSTUDIO_ABSENT = "Update LM Studio to 0.4 or newer, or do it there or with its command `lms`."

_LMSTUDIO = Backend(
    title="LM Studio",
    default_url="http://localhost:1234",
    start="Start its server on the Developer page or with `lms server start`.",
    signs=(
        Sign(10, "/lmstudio-greeting", keys=("lmstudio",), equals=True),
        # It answers 200 to every path it does not know (bug-tracker #618).
        Sign(11, "/lmstudio-greeting", keys=("error",), begins="Unexpected endpoint or method."),
        owned_by("organization_owner"),
        Sign(51, "/v1/models", status=401, keys=("error", "code"), equals="invalid_api_key"),
    ),
    get_model="Get it with `ollm models pull {model}`, in LM Studio, or with `lms get {model}`.",
    widen="Load the model with a larger context length in LM Studio.",
    actions={
        "pull": Step(
            "POST",
            "/api/v1/models/download",
            "model",
            "job",
            job=Job(
                "job_id",
                "/api/v1/models/download/status/{job}",
                done=("status", ("completed", "already_downloaded")),
                failed="status",
                failures=("failed", "paused"),
                completed="downloaded_bytes",
                total="total_size_bytes",
            ),
            absent=_LMSTUDIO_ABSENT,
        ),
        "load": Step("POST", "/api/v1/models/load", "model", absent=_LMSTUDIO_ABSENT),
        "unload": Step(
            "POST",
            "/api/v1/models/unload",
            "instance_id",
            instance=Lookup("/api/v1/models", ("models",), "key", ("loaded_instances", 0, "id")),
            absent=_LMSTUDIO_ABSENT,
        ),
    },
    instead={"delete": "Delete it on LM Studio's My Models page or with `lms rm {model}`."},
    models=(
        ("/api/v1/models", "lmstudio-v1"),  # 0.4
        ("/api/v0/models", "lmstudio-v0"),  # 0.3.6
        ("/v1/models", "openai"),
    ),
    lists_windows=True,  # of what is loaded, in the first two
    ignores_model=True,  # with one model loaded (bug-tracker #619)
    # json_object answers 400 (bug-tracker #189).
    formats={"json": FormatRoute("response_format", "object_schema"), "jsonSchema": JSON_SCHEMA},
    checked=frozenset({"json", "jsonSchema"}),
    names_tools=False,  # an object answers 400 (bug-tracker #670)
)

_LOCALAI = Backend(
    title="LocalAI",
    default_url="http://localhost:8080",
    start="Start it with `local-ai run`.",
    signs=(
        Sign(20, "/.well-known/localai.json", status=200, is_object=True),  # 4.2
        Sign(51, "/v1/models", status=401, keys=("error", "code"), equals=401),
        Sign(52, "/v1/models", keys=("data", 0), holds="id", lacks="owned_by"),
    ),
    version=Where("/version", ("version",)),
    get_model="Install it with `ollm models pull {model}` or `local-ai models install {model}`.",
    actions={
        "pull": Step(
            "POST",
            "/models/apply",
            "id",
            "job",
            job=Job(
                "uuid",
                "/models/jobs/{job}",
                done=("processed", (True,)),
                failed="error",
                percent="progress",
            ),
            needs_admin=True,
        ),
        "delete": Step("POST", "/models/delete/{model}", needs_admin=True),
        "unload": Step("POST", "/backend/shutdown", "model", needs_admin=True),
    },
    instead={"load": "LocalAI loads a model with the first request to it."},
    count=TokenCount("/v1/tokenize", "content", "text", ("tokens",), names_model=True),
    # A schema or grammar that cannot be converted is logged and left out (v4.9).
    formats=GRAMMAR_FORMATS,
    checked=ALL_FORMATS,
    error_text="Internal error: ",  # v3.8 to v4.0 send errors as text
)

_TEXTGEN = Backend(
    title="text-generation-webui",
    default_url="http://localhost:5000",
    start="Start it with `python server.py --api`.",
    signs=(
        Sign(51, "/v1/models", status=401, keys=("detail",), equals="Unauthorized"),
        Sign(51, "/v1/models", status=400, keys=("detail",), equals="Invalid host header"),
        owned_by("user"),
        Sign(94, "/v1/internal/model/info", keys=(), holds="lora_names"),
    ),
    get_model="Put the file into its models folder and load it with `ollm models load {model}`.",
    actions={
        "load": Step(
            "POST",
            "/v1/internal/model/load",
            "model_name",
            # A failed load answers "OK" too (v4.9).
            proof=("/v1/completions", {"prompt": "Hi", "max_tokens": 1}),
            needs_admin=True,
        ),
        "unload": Step("POST", "/v1/internal/model/unload", needs_admin=True),
    },
    instead={
        "pull": "Download it on its Model page.",
        "delete": "Delete the file in its models folder.",
    },
    count=TokenCount("/v1/internal/token-count", "text", "text", ("length",)),
    cuts_silently=True,  # the oldest turns first, then the prompt (v4.9)
    ignores_model=True,
    renamed={"repeat_penalty": "repetition_penalty"},
    # response_format does not exist (v4.9).
    formats={
        "json": FormatRoute("grammar_string", "json_gbnf"),
        "jsonSchema": FormatRoute("grammar_string", "json_gbnf"),
        "choice": FormatRoute("grammar_string", "choice_gbnf"),
        "grammar": FormatRoute("grammar_string", "verbatim"),
    },
    checked=ALL_FORMATS,
    tells_errors_whole=True,
)

_KOBOLDCPP = Backend(
    title="KoboldCpp",
    default_url="http://localhost:5001",
    start="Start it with `koboldcpp --model FILE.gguf`.",
    signs=(
        Sign(12, ANYWHERE, header=("server", "KoboldCppServer")),
        # Aphrodite and TabbyAPI answer this too, without `protected`.
        Sign(60, "/api/extra/version", keys=(), holds="protected"),
        owned_by("koboldcpp", 61),
    ),
    version=Where("/api/extra/version", ("version",)),
    get_model="KoboldCpp serves the one model it was started with.",
    widen="Start KoboldCpp with a larger `--contextsize`.",
    instead=one_model("KoboldCpp", "Start it with `koboldcpp --model FILE.gguf`."),
    window=Where("/api/extra/true_max_context_length", ("value",)),
    vision=Where("/api/extra/version", ("vision",)),
    count=TokenCount("/api/extra/tokencount", "messages", "messages", ("value",)),
    cuts_silently=True,  # from the front (v1.115)
    slots=1,
    ignores_model=True,
    formats=GRAMMAR_FORMATS,
    checked=frozenset({"json", "jsonSchema"}),  # an invalid schema is dropped in silence (v1.115)
    length_means_stop=True,  # v1.115: `stop` only for the model's own end token
    abort=("/api/extra/abort", "genkey"),
)

_LLAMACPP_STATE = Lookup("/models", ("data",), "id", ("status", "value"))
_LLAMACPP_ABSENT = "This one serves the model it was started with; without `-m` it lets you choose."

_LLAMACPP = Backend(
    title="llama.cpp",
    default_url="http://localhost:8080",
    start="Start it with `llama-server -m FILE.gguf`.",
    signs=(
        Sign(12, ANYWHERE, header=("server", "llama.cpp")),  # every answer, also 401 and 503 (b11434)
        owned_by("llamacpp"),
        Sign(96, "/props", keys=(), holds="build_info"),
    ),
    version=Where("/props", ("build_info",)),
    get_model="llama.cpp serves the model it was started with.",
    widen="Start llama-server with a larger `-c`, or with `-c 0` for all the model has.",
    actions={
        # With models to choose from only (b11434); it answers before the model is loaded.
        "load": Step(
            "POST",
            "/models/load",
            "model",
            until=(_LLAMACPP_STATE, frozenset({"loaded", "sleeping"})),
            absent=_LLAMACPP_ABSENT,
        ),
        "unload": Step("POST", "/models/unload", "model", absent=_LLAMACPP_ABSENT),
    },
    instead={
        "pull": "Start it with `llama-server -hf USER/MODEL`, which downloads the file.",
        "delete": "Delete the file it was started with.",
    },
    window=Where("/props", ("default_generation_settings", "n_ctx")),
    lists_windows=True,  # of what is loaded (`meta.n_ctx`, b11434)
    slots=Where("/props", ("total_slots",)),
    vision=Where("/props", ("modalities", "vision")),
    count=TokenCount("/v1/chat/completions/input_tokens", "messages", "messages", ("input_tokens",)),
    ignores_model=True,
    formats=GRAMMAR_FORMATS,
    names_tools=False,  # an object is taken for auto (b11434)
    infill="infill",
)

_TABBYAPI = Backend(
    title="TabbyAPI",
    default_url="http://localhost:5000",
    start="Start it with `python start.py`.",
    signs=(
        Sign(30, "/.well-known/serviceinfo", keys=("software", "name"), equals="TabbyAPI"),
        Sign(40, "/api/v1/model", keys=("result",), begins="tabbyAPI/"),
        owned_by("tabbyAPI"),
        Sign(51, "/v1/models", status=401, keys=("detail",), equals="Please provide an API key"),
    ),
    get_model="Download it with `ollm models pull {model}`, then load it with `ollm models load`.",
    widen="Set a larger `max_seq_len` in TabbyAPI's config.yml.",
    actions={
        "pull": Step("POST", "/v1/download", "repo_id", needs_admin=True),
        # Progress as events, no end mark, errors as events under 200 (e632af4).
        "load": Step("POST", "/v1/model/load", "model_name", "events", needs_admin=True),
        "unload": Step("POST", "/v1/model/unload", needs_admin=True),
    },
    instead={"delete": "Delete the folder in its models folder."},
    loaded=Where("/v1/model", ("id",)),
    window=Where("/v1/model", ("parameters", "max_seq_len")),
    vision=Where("/v1/model", ("parameters", "use_vision")),
    count=TokenCount("/v1/token/encode", "text", "messages", ("length",)),
    ignores_model=True,
    requires_max_tokens=True,  # a completion without one fails in mid-stream (e632af4)
    renamed={"repeat_penalty": "repetition_penalty"},
    formats={
        "json": FormatRoute("response_format", "json"),  # json_object is not a known type
        "jsonSchema": JSON_SCHEMA,
        "regex": FormatRoute("regex_pattern", "verbatim"),
        "choice": FormatRoute("regex_pattern", "choice_regex"),
        "grammar": FormatRoute("grammar_string", "verbatim"),
    },
    checked=ALL_FORMATS,  # what it cannot read is logged and left out
)

_FASTCHAT = Backend(
    title="FastChat",
    default_url="http://localhost:8000",
    start="Start its controller, a model worker and `fastchat.serve.openai_api_server`.",
    signs=(
        owned_by("fastchat"),
        Sign(51, "/v1/models", status=401, keys=("detail", "error", "code"), equals="invalid_api_key"),
        Sign(80, "/openapi.json", keys=("paths",), holds="/api/v1/token_check"),
    ),
    get_model="FastChat serves what its running workers loaded; see `ollm models`.",
    instead=one_model("a FastChat worker", "Start a model worker with `--model-path`."),
    sends_usage=False,
    unsupported=frozenset({"min_p", "seed", "repeat_penalty"}),
    tools=False,
    logprobs=False,
    # response_format is dropped in silence (0.2.36), so there are no formats.
)

_EMBEDDED = Backend(
    title="the embedded model",
    default_url="http://127.0.0.1:1",
    start="",
    instead=one_model("the embedded model", "Set `providers.embedded.modelPath` to its file."),
    window=_LLAMACPP.window,
    slots=_LLAMACPP.slots,
    vision=_LLAMACPP.vision,
    count=_LLAMACPP.count,
    formats=GRAMMAR_FORMATS,
    names_tools=False,
    infill="infill",
)

_GENERIC = Backend(
    title="the OpenAI-compatible server",
    default_url="http://localhost:1234",
    start="Start it, or correct `baseUrl`.",
    instead=dict.fromkeys(ALL_ACTIONS, "Use the server's own tools; what it is could not be found out."),
    formats=OPENAI_FORMATS,
    checked=ALL_FORMATS,
)

BACKENDS: Mapping[str, Backend] = {
    "ollama": _OLLAMA,
    "vllm": VLLM,
    "lmstudio": _LMSTUDIO,
    "localai": _LOCALAI,
    "textgen": _TEXTGEN,
    "koboldcpp": _KOBOLDCPP,
    "llamacpp": _LLAMACPP,
    "aphrodite": APHRODITE,
    "tabbyapi": _TABBYAPI,
    "fastchat": _FASTCHAT,
    "embedded": _EMBEDDED,
    "generic": _GENERIC,
    "production-stack": PRODUCTION_STACK,
    "vllm-router": VLLM_ROUTER,
    "ray-serve": RAY_SERVE,
}

VLLM_FRONTS = frozenset({"vllm", "production-stack", "vllm-router", "ray-serve"})
"""VLLM, and what stands in front of many of it."""

SIGNS: tuple[tuple[Sign, str], ...] = tuple(
    sorted(
        ((sign, name) for name, backend in BACKENDS.items() for sign in backend.signs),
        key=lambda row: row[0].step,
    )
)
"""Every sign with whom it gives away, in the order they are looked for."""
