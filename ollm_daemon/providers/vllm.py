"""`VllmProvider`: vLLM, with its structured decoding translated for the version that answers.

vLLM renamed and removed options under status 200: what a version does not know it ignores, and the
answer comes back unconstrained. So the version is asked once, and each option goes out under the name
that version obeys, or is refused here with a sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ollm_daemon.domain import ChatRequest, ProviderSettings, ResponseFormat
from ollm_daemon.errors import BrokenAnswerError, ProviderError, RefusedError, UnsupportedError
from ollm_daemon.providers._guided import GUIDED
from ollm_daemon.providers._openai_dialect import encode_chat
from ollm_daemon.providers.backends import BACKENDS, VLLM_FRONTS
from ollm_daemon.providers.base import Capabilities
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider

Version = tuple[int, ...]

FIRST_TO_TELL: Version = (0, 4)
"""The first vLLM with `GET /version`; a lower number is a router's own."""
STRUCTURED_OUTPUTS_SINCE: Version = (0, 11)
"""`structured_outputs` works; before, it is ignored in silence."""
JSON_SCHEMA_SINCE: Version = (0, 6, 3)
"""`response_format: json_schema` works."""
BEST_OF_REMOVED: Version = (0, 12)
"""`best_of` is ignored in silence."""

_STRUCTURED_KEY = {"jsonSchema": "json", "regex": "regex", "choice": "choice", "grammar": "grammar"}
_GUIDED_KEY: dict[str, str] = {wanted: key for key, wanted in GUIDED.items()}


@dataclass(frozen=True, slots=True)
class VllmServerInfo:
    """What `GET /version` and `GET /health` tell. `version` is `None` behind a router."""

    version: str | None
    healthy: bool


class VllmProvider(OpenAICompatibleProvider):
    """vLLM, alone or behind a router that passes its API through."""

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings, BACKENDS["vllm"])
        self._version: Version | None = None

    @property
    def capabilities(self) -> Capabilities:
        """VLLM applies every kind of constraint."""
        formats = frozenset({"text", "json", *_STRUCTURED_KEY})
        return replace(super().capabilities, response_formats=formats)

    def _recognise(self, found: str) -> None:
        """Tell a router in front of vLLM from vLLM, and both from what is neither."""
        if found in VLLM_FRONTS:
            self._become(found)
        else:
            said = f"The server at {self.base_url} is {BACKENDS[found].title}, not vLLM; "
            self.notices = (f"{said}choose a provider of kind openai-compatible for it.",)

    async def get_server_info(self) -> VllmServerInfo:
        """Version and health, both from routes that need no key.

        Raises:
            ProviderError: The server cannot be reached.
        """
        try:
            document = await self.http.get_json("/version")
        except ProviderError as error:
            if error.status != 404:
                raise
            document = None
        version = document.get("version") if isinstance(document, dict) else None
        try:
            async with self.http.open_stream("GET", "/health", None, self.settings.timeouts) as stream:
                stream.finish()
            healthy = True
        except ProviderError:
            healthy = False
        return VllmServerInfo(version if isinstance(version, str) else None, healthy)

    async def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The request body, constraints under the name this server's version obeys.

        Raises:
            UnsupportedError: This version cannot do it, or cannot do it while streaming.
        """
        wanted, options = request.response_format, request.options
        if options.extra_body.get("use_beam_search") and request.stream:
            raise UnsupportedError(
                "vLLM cannot stream a beam search.",
                hint="Leave out the stream token, or drop use_beam_search.",
            )
        constrained = wanted.type not in ("text", "json")
        if not constrained and not options.extra_body.keys() & {"best_of", "structured_outputs"}:
            return encode_chat(request, self.backend)
        version = await self._ask_version()
        plain = ResponseFormat("text") if constrained else wanted
        body = encode_chat(replace(request, response_format=plain), self.backend)
        _check_best_of(body, version)
        _check_structured_outputs(body, version)
        if constrained:
            body.update(encode_constraint(wanted, version))
        return body

    async def _ask_version(self) -> Version | None:
        """The server's version, asked once; `None` when it does not tell, as behind a router."""
        if self._version is None:
            try:
                document = await self.http.get_json("/version")
            except (RefusedError, BrokenAnswerError):
                return None
            self._version = parse_version(document.get("version") if isinstance(document, dict) else None)
        return self._version


def parse_version(text: Any) -> Version | None:
    """`"0.6.3.post1"` as `(0, 6, 3)`; `None` for what is no version of vLLM."""
    match = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", text) if isinstance(text, str) else None
    version = tuple(int(part) for part in match[1].split(".")) if match else None
    return version if version and version >= FIRST_TO_TELL else None


def encode_constraint(wanted: ResponseFormat, version: Version | None) -> dict[str, Any]:
    """The keys that constrain an answer on vLLM `version`; an unknown version counts as current.

    JSON Schema goes through `response_format`, which every version since 0.6.3 obeys.
    """
    if wanted.type == "jsonSchema" and (version is None or version >= JSON_SCHEMA_SINCE):
        schema = {"name": "answer", "schema": wanted.value}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if version is None or version >= STRUCTURED_OUTPUTS_SINCE:
        return {"structured_outputs": {_STRUCTURED_KEY[wanted.type]: wanted.value}}
    return {_GUIDED_KEY[wanted.type]: wanted.value}


def _check_best_of(body: dict[str, Any], version: Version | None) -> None:
    best_of = body.get("best_of")
    if best_of is None:
        return
    if best_of == 1:
        del body["best_of"]
    elif version is None or version >= BEST_OF_REMOVED:
        raise UnsupportedError(
            "This vLLM no longer has best_of: it would be ignored.",
            hint="Use n, or use_beam_search without streaming.",
        )


def _check_structured_outputs(body: dict[str, Any], version: Version | None) -> None:
    if body.get("structured_outputs") is None or version is None or version >= STRUCTURED_OUTPUTS_SINCE:
        return
    raise UnsupportedError(
        "This vLLM does not know structured_outputs: it would be ignored.",
        hint="Use responseFormat or guided_json, guided_regex, guided_choice or guided_grammar.",
    )
