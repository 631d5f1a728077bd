"""vLLM's options as they go out: each under the name that the version behind the port obeys, or refused here.

What counts is the body that arrives at the server; a version that ignores an option would answer 200.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ollm_daemon.domain import ChatRequest, GenerationOptions, ResponseFormat
from ollm_daemon.errors import UnreachableError, UnsupportedError
from ollm_daemon.providers._guided import lift_guided
from ollm_daemon.providers.vllm import VllmProvider, parse_version
from tests.fakes.upstream import End, Reply, ScriptedUpstream, body_reply, json_reply
from tests.providers.asking import QUESTION, ask, settings_for

pytestmark = pytest.mark.anyio

VERSIONS = ("0.6.2", "0.6.3.post1", "0.10.2", "0.11.0", "0.12.0", "0.32.0", None)
"""`None` is a router that has no `/version`."""
CONSTRAINTS = {"response_format", "structured_outputs", "best_of", "use_beam_search", "n"}
CHAT = "/v1/chat/completions"
ANSWER = json_reply(200, {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]})
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
JSON_SCHEMA = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
}
GRAMMAR = 'root ::= "a"'


@dataclass(frozen=True)
class Row:
    """What is asked for, and the keys that go out before and since a version; text is a refusal's words."""

    asked: dict[str, Any] | ResponseFormat
    before: dict[str, Any] | str
    since: str = "0"
    then: dict[str, Any] | str = ""
    stream: bool = False

    @property
    def request(self) -> ChatRequest:
        if isinstance(self.asked, ResponseFormat):
            return replace(QUESTION, response_format=self.asked, stream=self.stream)
        options = GenerationOptions(extra_body=self.asked)
        return lift_guided(replace(QUESTION, options=options, stream=self.stream))

    def expected(self, version: str | None) -> dict[str, Any] | str:
        number = parse_version(version)
        first = tuple(int(part) for part in self.since.split("."))
        return self.then if number is None or number >= first else self.before


def always(
    asked: dict[str, Any] | ResponseFormat, expected: dict[str, Any] | str, *, stream: bool = False
) -> Row:
    return Row(asked, expected, "0", expected, stream)


ONE = "Only one constraint"
ROWS: dict[str, Row] = {
    "nothing": always({}, {}),
    "guided_json": Row({"guided_json": SCHEMA}, {"guided_json": SCHEMA}, "0.6.3", JSON_SCHEMA),
    "guided_json, text": Row(
        {"guided_json": json.dumps(SCHEMA)}, {"guided_json": SCHEMA}, "0.6.3", JSON_SCHEMA
    ),
    "guided_json, no JSON": always({"guided_json": "{"}, "guided_json is not a JSON Schema"),
    "guided_json, null": always({"guided_json": None}, {}),
    "guided_regex": Row(
        {"guided_regex": "a+"}, {"guided_regex": "a+"}, "0.11", {"structured_outputs": {"regex": "a+"}}
    ),
    "guided_choice": Row(
        {"guided_choice": ["a"]}, {"guided_choice": ["a"]}, "0.11", {"structured_outputs": {"choice": ["a"]}}
    ),
    "guided_grammar": Row(
        {"guided_grammar": GRAMMAR},
        {"guided_grammar": GRAMMAR},
        "0.11",
        {"structured_outputs": {"grammar": GRAMMAR}},
    ),
    "a constraint and other options": Row(
        {"guided_regex": "a", "n": 2},
        {"guided_regex": "a", "n": 2},
        "0.11",
        {"structured_outputs": {"regex": "a"}, "n": 2},
    ),
    "format jsonSchema": Row(
        ResponseFormat("jsonSchema", SCHEMA), {"guided_json": SCHEMA}, "0.6.3", JSON_SCHEMA
    ),
    "format json": always(ResponseFormat("json"), {"response_format": {"type": "json_object"}}),
    "format regex": Row(
        ResponseFormat("regex", "a+"), {"guided_regex": "a+"}, "0.11", {"structured_outputs": {"regex": "a+"}}
    ),
    "format choice": Row(
        ResponseFormat("choice", ["a"]),
        {"guided_choice": ["a"]},
        "0.11",
        {"structured_outputs": {"choice": ["a"]}},
    ),
    "format grammar": Row(
        ResponseFormat("grammar", GRAMMAR),
        {"guided_grammar": GRAMMAR},
        "0.11",
        {"structured_outputs": {"grammar": GRAMMAR}},
    ),
    "structured_outputs": Row(
        {"structured_outputs": {"regex": "a", "whitespace_pattern": " "}},
        "does not know structured_outputs",
        "0.11",
        {"structured_outputs": {"regex": "a", "whitespace_pattern": " "}},
    ),
    "response_format": always(
        {"response_format": {"type": "structural_tag"}}, {"response_format": {"type": "structural_tag"}}
    ),
    "two guided": always({"guided_regex": "a", "guided_choice": ["a"]}, ONE),
    "guided and structured_outputs": always({"guided_regex": "a", "structured_outputs": {"regex": "b"}}, ONE),
    "guided and response_format": always(
        {"guided_json": SCHEMA, "response_format": {"type": "json_object"}}, ONE
    ),
    "both of vLLM's own": always(
        {"structured_outputs": {"json": {}}, "response_format": {"type": "json_object"}}, ONE
    ),
    "best_of": Row({"best_of": 3, "n": 2}, {"best_of": 3, "n": 2}, "0.12", "no longer has best_of"),
    "best_of 1": always({"best_of": 1}, {}),
    "use_beam_search": always({"use_beam_search": True, "n": 2}, {"use_beam_search": True, "n": 2}),
    "use_beam_search, streaming": always(
        {"use_beam_search": True}, "cannot stream a beam search", stream=True
    ),
    "no use_beam_search, streaming": always(
        {"use_beam_search": False}, {"use_beam_search": False}, stream=True
    ),
}


def vllm(version: str | None, chat: Reply = ANSWER) -> ScriptedUpstream:
    tells = (
        json_reply(404, {"detail": "Not Found"}) if version is None else json_reply(200, {"version": version})
    )
    return ScriptedUpstream({"/version": tells, CHAT: chat})


def constraints(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key in CONSTRAINTS or key.startswith("guided")}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ROWS)
async def test_what_goes_out(name: str, version: str | None) -> None:
    row = ROWS[name]
    expected = row.expected(version)
    async with vllm(version) as upstream:
        provider = VllmProvider(settings_for(upstream.url, "vllm"))
        if isinstance(expected, str):
            with pytest.raises(UnsupportedError, match=expected) as caught:
                await ask(provider, row.request)
            assert caught.value.hint
        else:
            assert (await ask(provider, row.request)).finished.reason == "stop"
        sent = [request for request in upstream.requests if request.path == CHAT]
        await provider.aclose()
    if isinstance(expected, str):
        assert sent == []
    else:
        [request] = sent
        assert constraints(request.json()) == expected


async def test_with_a_constraint_a_request_is_otherwise_the_same() -> None:
    options = GenerationOptions(temperature=0.5, repeat_penalty=1.1, stop=("x",), seed=1)
    guided = replace(
        options, extra_body={"guided_regex": "a", "guided_decoding_backend": "outlines", "min_tokens": 2}
    )
    bodies = []
    async with vllm("0.32.0") as upstream:
        provider = VllmProvider(settings_for(upstream.url, "vllm"))
        for each in (options, guided):
            await ask(provider, lift_guided(replace(QUESTION, options=each, stream=False)))
            bodies.append(upstream.requests[-1].json())
        await provider.aclose()
    plain, constrained = bodies
    assert plain["repetition_penalty"] == 1.1
    assert constrained == {**plain, "min_tokens": 2, "structured_outputs": {"regex": "a"}}


async def test_the_version_is_asked_once_and_only_where_it_matters() -> None:
    async with vllm("0.10.2") as upstream:
        provider = VllmProvider(settings_for(upstream.url, "vllm"))
        for name in (
            "nothing",
            "format json",
            "use_beam_search",
            "guided_regex",
            "format grammar",
            "best_of",
        ):
            await ask(provider, ROWS[name].request)
        await provider.aclose()
        assert [request.path for request in upstream.requests].count("/version") == 1
        assert [request.path for request in upstream.requests[:3]] == [CHAT] * 3


@pytest.mark.parametrize(
    "reply",
    [
        json_reply(404, {"detail": "Not Found"}),
        json_reply(401, {"error": "Unauthorized"}),
        json_reply(500, {}),
        json_reply(200, {}),
        json_reply(200, []),
        json_reply(200, {"version": None}),
        json_reply(200, {"version": 11}),
        json_reply(200, {"version": "main"}),
        json_reply(200, {"version": "0.1.17"}),
        json_reply(200, {"version": "1" * 5000}),
        json_reply(200, {"error": "no such route"}),
        body_reply(200, b"<html></html>", "Content-Type: text/html"),
    ],
)
async def test_a_server_that_does_not_tell_counts_as_current(reply: Reply) -> None:
    async with ScriptedUpstream({"/version": reply, CHAT: ANSWER}) as upstream:
        provider = VllmProvider(settings_for(upstream.url, "vllm"))
        assert (await ask(provider, ROWS["guided_regex"].request)).text == "yes"
        await provider.aclose()
        assert constraints(upstream.requests[-1].json()) == {"structured_outputs": {"regex": "a+"}}


async def test_a_server_that_is_gone_is_not_guessed_about() -> None:
    async with ScriptedUpstream(Reply(End.CLOSE)) as upstream:
        provider = VllmProvider(settings_for(upstream.url, "vllm"))
        answer = await ask(provider, ROWS["guided_regex"].request)
        await provider.aclose()
        assert isinstance(answer.error, UnreachableError)
        assert CHAT not in [request.path for request in upstream.requests]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.6.3.post1", (0, 6, 3)),
        ("v0.12.0", (0, 12, 0)),
        ("0.11.1rc2.dev12+gabc.d20251101", (0, 11, 1)),
        ("0.33", (0, 33)),
        ("1.0.0", (1, 0, 0)),
        ("0.4.3", (0, 4, 3)),
        ("0.1.17", None),
        ("dev", None),
        ("", None),
        (None, None),
        (0.11, None),
        ("9" * 5000, (999_999_999,)),
    ],
)
async def test_versions(text: Any, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


async def test_server_info() -> None:
    version, unknown = json_reply(200, {"version": "0.32.0"}), json_reply(404, {"detail": "Not Found"})
    for tells, status, expected in ((version, 200, ("0.32.0", True)), (unknown, 503, (None, False))):
        async with ScriptedUpstream({"/version": tells, "/health": body_reply(status, b"")}) as upstream:
            provider = VllmProvider(settings_for(upstream.url, "vllm"))
            info = await provider.get_server_info()
            await provider.aclose()
        assert (info.version, info.healthy) == expected
