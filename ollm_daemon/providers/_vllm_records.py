"""Records of vLLM, its fork Aphrodite, and what stands in front of many vLLMs."""

from __future__ import annotations

from ollm_daemon.providers.facts import (
    DEPLOYED,
    STRUCTURED_FORMATS,
    Backend,
    Sign,
    TokenCount,
    Where,
    one_model,
    owned_by,
)

_VLLM_START = "Start it with `vllm serve MODEL`."
_VLLM_COUNT = TokenCount("/tokenize", "messages", "messages", ("count",), names_model=True)

VLLM = Backend(
    title="vLLM",
    default_url="http://localhost:8000",
    start=_VLLM_START,
    signs=(
        owned_by("vllm"),
        Sign(51, "/v1/models", status=401, keys=("error",), equals="Unauthorized"),
        Sign(95, "/version", keys=("version",), begins="0."),
    ),
    version=Where("/version", ("version",)),
    get_model="vLLM serves the models it was started with; see `ollm models`.",
    widen="Start vLLM with a larger `--max-model-len`.",
    instead=one_model("vLLM", _VLLM_START),
    lists_windows=True,
    count=_VLLM_COUNT,
    max_stop=4,  # VLLM_MAX_STOP_STRINGS, 0.28
    renamed={"repeat_penalty": "repetition_penalty"},
    formats=STRUCTURED_FORMATS,
    session_header="X-Session-ID",  # 0.28, and the routers in front of it
)

APHRODITE = Backend(
    title="Aphrodite",
    default_url="http://localhost:2242",
    start="Start it with `aphrodite run MODEL`.",
    signs=(
        Sign(30, "/.well-known/serviceinfo", keys=("software", "name"), equals="Aphrodite Engine"),  # to 0.10
        # Open even when the server wants a key (0.24); it also answers as KoboldCpp 1.63.
        Sign(40, "/api/v1/model", keys=("result",), begins="aphrodite/"),
        owned_by("aphrodite"),
        owned_by("pygmalionai"),  # 0.6
    ),
    version=Where("/version", ("version",)),
    get_model="Aphrodite serves the models it was started with; see `ollm models`.",
    instead=one_model("Aphrodite", "Start it with `aphrodite run MODEL`."),
    lists_windows=True,
    count=_VLLM_COUNT,
    max_stop=4,  # APHRODITE_MAX_STOP_STRINGS, 0.24
    renamed={"repeat_penalty": "repetition_penalty"},
    formats=STRUCTURED_FORMATS,
    session_header="X-Session-ID",
)

PRODUCTION_STACK = Backend(
    title="the vLLM production-stack router",
    default_url="http://localhost:8001",
    start="Start its router.",
    # Its /version is its own, and what it lists looks like vLLM without a window (a6c01db).
    signs=(
        Sign(45, "/engines", status=200, keys=(0,), holds="engine_id"),
        Sign(46, "/engines", keys=(), equals=[]),
    ),
    get_model="The router serves the models of the engines behind it; see `ollm models`.",
    instead=DEPLOYED,
    max_stop=4,
    renamed={"repeat_penalty": "repetition_penalty"},
    formats=STRUCTURED_FORMATS,
    session_header="X-Session-ID",
)

VLLM_ROUTER = Backend(
    title="vllm-router",
    default_url="http://localhost:30000",
    start="Start it with `vllm-router --worker-urls URL …`.",
    get_model="The router serves the models of the workers behind it; see `ollm models`.",
    instead=DEPLOYED,
    max_stop=4,
    renamed={"repeat_penalty": "repetition_penalty"},
    formats=STRUCTURED_FORMATS,
    session_header="X-Session-ID",  # first in its order of keys (0.1.17)
)

RAY_SERVE = Backend(
    title="Ray Serve",
    default_url="http://localhost:8000",
    start="Deploy the service with `serve run`.",
    signs=(owned_by("organization-owner"),),  # 2.60
    get_model="Ray Serve serves the models it was deployed with; see `ollm models`.",
    instead=DEPLOYED,
    lists_windows=True,  # 2.60
    max_stop=4,
    renamed={"repeat_penalty": "repetition_penalty"},
    formats=STRUCTURED_FORMATS,
    session_header="X-Session-ID",
)
