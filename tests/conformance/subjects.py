"""All servers that are data, in the order of the table of backends."""

from __future__ import annotations

from dataclasses import replace

from tests.conformance.captured import OLLAMA_WIRE, VLLM_WIRE
from tests.conformance.captured_others import FASTCHAT_WIRE, GENERIC_WIRE, LLAMACPP_WIRE
from tests.conformance.documented import aphrodite, fronts, koboldcpp, lmstudio, localai, tabbyapi, textgen
from tests.conformance.wire import Wire

SERVERS: tuple[Wire, ...] = (
    OLLAMA_WIRE,
    VLLM_WIRE,
    lmstudio.WIRE,
    localai.WIRE,
    textgen.WIRE,
    koboldcpp.WIRE,
    LLAMACPP_WIRE,
    aphrodite.WIRE,
    tabbyapi.WIRE,
    FASTCHAT_WIRE,
    GENERIC_WIRE,
    fronts.PRODUCTION_STACK,
    fronts.VLLM_ROUTER,
    fronts.RAY_SERVE,
)
"""Those that may be found at an address."""

EMBEDDED_WIRE = replace(
    LLAMACPP_WIRE,
    backend="embedded",
    failures={name: failed for name, failed in LLAMACPP_WIRE.failures.items() if name != "wrong key"},
)
"""The daemon's own child, which is llama.cpp and has a key that nobody types."""

WIRES: tuple[Wire, ...] = (*SERVERS, EMBEDDED_WIRE)
WIRE: dict[str, Wire] = {wire.backend: wire for wire in WIRES}
