"""Who is there: found out by GETs without a key, also of a server that is locked, loading or in disguise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ollm_daemon.domain import Identity
from tests.conformance.captured import OLLAMA_WIRE
from tests.conformance.captured_others import LLAMACPP_WIRE
from tests.conformance.documented import aphrodite, koboldcpp, lmstudio, localai, tabbyapi, textgen
from tests.conformance.documented._shapes import fastapi
from tests.conformance.evidence import Evidence, case, documented, scenario, unsupported
from tests.conformance.subjects import SERVERS, WIRE
from tests.conformance.wire import Wire, provider_for
from tests.fakes.upstream import Reply, Request, ScriptedUpstream, json_reply

pytestmark = pytest.mark.anyio

KEY_HEADERS = ("authorization", "x-api-key", "x-admin-key", "cookie")
TOLD = [wire for wire in SERVERS if wire.known_as is not None]
UNTOLD = [wire for wire in SERVERS if wire.known_as is None]


def check_probes(requests: list[Request]) -> None:
    """Nothing but GETs, and no key in them."""
    assert requests
    for request in requests:
        assert request.method == "GET"
        assert request.body == b""
        assert [name for name in KEY_HEADERS if request.header(name) is not None] == []
    paths = [request.path for request in requests]
    assert len(paths) == len(set(paths)), "each is asked once"


async def identify(wire: Wire, *, locked: bool = False) -> Identity:
    """What a provider with a key finds out."""
    async with ScriptedUpstream(wire.answers(locked=locked)) as upstream:
        provider = provider_for(wire, upstream.url, key=True)
        identity = await provider.identify()
        await provider.aclose()
    check_probes(upstream.requests)
    return identity


@scenario(
    "identified, open",
    [
        *(case(wire.backend, wire.evidence, wire) for wire in TOLD),
        *(unsupported(wire.backend, wire) for wire in UNTOLD),
    ],
)
async def test_open(case: Wire) -> None:
    assert await identify(case) == Identity(case.known_as, case.version, "ready")


@scenario(
    "identified without the key it wants",
    [
        *(case(wire.backend, wire.evidence, wire) for wire in TOLD if wire.locked),
        *(unsupported(wire.backend, wire) for wire in UNTOLD),
    ],
)
async def test_locked(case: Wire) -> None:
    identity = await identify(case, locked=True)
    assert (identity.backend, identity.state) == (case.known_as, case.locked_state)


@scenario("identified while it loads", [case("llamacpp", Evidence.CAPTURE, LLAMACPP_WIRE)])
async def test_loading(case: Wire) -> None:
    assert case.loading
    async with ScriptedUpstream(case.loading) as upstream:
        provider = provider_for(case, upstream.url)
        assert await provider.identify() == Identity("llamacpp", None, "loading")
        await provider.aclose()
    check_probes(upstream.requests)


def changed(wire: Wire, gets: dict[str, Reply], *without: str) -> Wire:
    """The server with some answers more and some less."""
    kept = {path: reply for path, reply in wire.gets.items() if path not in without}
    return replace(wire, gets={**kept, **gets})


_GREETING = "/.well-known/localai.json"


@scenario(
    "told from whom it imitates",
    [
        # 4.2 to HEAD it answers like Ollama, and before it had a document of its own.
        documented("localai", changed(localai.WIRE, {}), "as Ollama"),
        documented("localai", changed(localai.WIRE, {}, _GREETING), "before 4.2"),
        # Its own answers to /api/* and /props are those of Ollama and llama.cpp.
        documented("koboldcpp", koboldcpp.WIRE, "as Ollama and llama.cpp"),
        documented("aphrodite", aphrodite.WIRE, "as KoboldCpp and vLLM"),
        documented(  # up to 0.10; without that route since 0.20
            "aphrodite",
            changed(
                aphrodite.WIRE,
                {"/.well-known/serviceinfo": fastapi({"software": {"name": "Aphrodite Engine"}})},
                "/api/v1/model",
            ),
            "to 0.10",
        ),
        documented("tabbyapi", tabbyapi.WIRE, "as KoboldCpp and llama.cpp"),
        documented(
            "tabbyapi",
            changed(tabbyapi.WIRE, {"/api/v1/model": fastapi({"result": "tabbyAPI/dir"})}),
            "with its Kobold API",
        ),
        documented("lmstudio", lmstudio.WIRE, "200 to everything"),
        documented("lmstudio", changed(lmstudio.WIRE, {}, "/lmstudio-greeting"), "without a greeting"),
        # No model installed: `null` (openai/openai.go:450-469).
        case(
            "ollama",
            Evidence.DOCUMENTED,
            changed(OLLAMA_WIRE, {"/v1/models": json_reply(200, {"object": "list", "data": None})}),
            "no model",
        ),
    ],
)
async def test_imitators(case: Wire) -> None:
    identity = await identify(case)
    assert identity.backend == case.known_as


def only(wire: Wire, gets: dict[str, Reply], rest: Reply | None = None) -> Wire:
    """The server when it answers nothing but this."""
    return replace(wire, gets=gets, unknown=(lambda _: rest) if rest else wire.unknown)


_NO_SERVER_HEADER = json_reply(200, koboldcpp.VERSION)
_EMPTY = fastapi({"object": "list", "data": []})
_OLD_APHRODITE = fastapi({"object": "list", "data": [{"id": "m", "owned_by": "pygmalionai"}]})
_FASTCHAT_PATHS = fastapi({"openapi": "3.1.0", "paths": {"/v1/models": {}, "/api/v1/token_check": {}}})


@scenario(
    "identified by its other signs",
    [
        documented("aphrodite", only(aphrodite.WIRE, {"/v1/models": _OLD_APHRODITE}), "0.6"),
        documented(  # behind something that takes the header away
            "koboldcpp",
            only(koboldcpp.WIRE, {"/api/extra/version": _NO_SERVER_HEADER}, fastapi({}, "404 Not Found")),
            "no header",
        ),
        documented(  # modules/api/script.py:149-160, v4.9: called by another name than localhost
            "textgen",
            only(textgen.WIRE, {}, fastapi({"detail": "Invalid host header"}, "400 Bad Request")),
            "host",
        ),
        documented(
            "textgen",
            only(
                textgen.WIRE,
                {
                    "/v1/models": _EMPTY,
                    "/v1/internal/model/info": fastapi(
                        {"model_name": "None", "lora_names": [], "loader": None}
                    ),
                },
            ),
            "no model",
        ),
        documented(
            "fastchat",
            only(WIRE["fastchat"], {"/v1/models": _EMPTY, "/openapi.json": _FASTCHAT_PATHS}),
            "no worker",
        ),
        documented(
            "production-stack",
            only(WIRE["production-stack"], {"/v1/models": _EMPTY, "/engines": fastapi([])}),
            "no engine",
        ),
        documented("lmstudio", only(lmstudio.WIRE, {}, lmstudio.NO_KEY), "every path locked"),
        documented("localai", only(localai.WIRE, {"/v1/models": localai.NO_KEY}), "before 4.2, locked"),
        documented(
            "vllm", only(WIRE["vllm"], {"/version": fastapi({"version": "0.6.3.post1"})}), "its version alone"
        ),
    ],
)
async def test_other_signs(case: Wire) -> None:
    assert (await identify(case)).backend == case.known_as


async def test_a_server_that_says_200_to_everything_is_nobody_else() -> None:
    """LM Studio's text alone decides, whatever is asked."""
    async with ScriptedUpstream(lmstudio.unexpected) as upstream:
        provider = provider_for(lmstudio.WIRE, upstream.url)
        assert (await provider.identify()).backend == "lmstudio"
        await provider.aclose()
