"""The request that a question becomes: within the window, cut between lines, as the server takes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollm_daemon.completion.asking import (
    CURSOR_MARK,
    LINE_TOKENS,
    SPARE_TOKENS,
    AnyRequest,
    Question,
    build_request,
    family_of,
    from_line,
    in_its_form,
    to_line,
    varied,
)
from ollm_daemon.completion.context import RecentPlaces, choose_context
from ollm_daemon.domain import ChatRequest, CompletionSettings, ContextFile, InfillRequest
from ollm_daemon.errors import UnsupportedError
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider
from tests.providers.asking import settings_for

pytestmark = pytest.mark.anyio
NOWHERE = "http://127.0.0.1:9"
LINES = "".join(f"value_{number} = {number}\n" for number in range(2000))
OTHER = "file:///b/other.py"


def server(backend: str = "vllm", context_length: int | None = 100_000) -> OpenAICompatibleProvider:
    """One that is not there: what is asked here is known without it."""
    return OpenAICompatibleProvider(settings_for(NOWHERE, backend=backend, context_length=context_length))


async def request_for(
    settings: CompletionSettings | None = None,
    *,
    backend: str = "vllm",
    window: int = 100_000,
    block: bool = True,
    model: str = "qwen2.5-coder:7b",
    prefix: str = LINES,
    suffix: str = LINES,
    characters_per_token: float = 3.0,
) -> InfillRequest:
    request = await any_request_for(
        settings or CompletionSettings(),
        server(backend, window),
        block=block,
        model=model,
        question=Question("file:///a/my%20file.py", prefix, suffix, "python"),
        characters_per_token=characters_per_token,
    )
    assert isinstance(request, InfillRequest)
    return request


async def any_request_for(
    settings: CompletionSettings,
    adapter: OpenAICompatibleProvider,
    *,
    block: bool = True,
    model: str,
    question: Question,
    characters_per_token: float = 3.0,
) -> AnyRequest:
    places = RecentPlaces()
    places.touch(OTHER)

    def choose(near: str, characters: int) -> tuple[ContextFile, ...]:
        documents = {OTHER: LINES}
        return choose_context(
            question.uri, near, documents, places, characters=characters, exclude=settings.exclude
        )

    return await build_request(
        question,
        adapter,
        model,
        settings,
        block=block,
        choose=choose,
        characters_per_token=characters_per_token,
    )


async def test_the_budget_is_kept_and_cut_between_lines() -> None:
    request = await request_for(CompletionSettings(context_tokens=1000))
    texts = [request.prefix, request.suffix, *(file.text for file in request.extra)]
    assert sum(map(len, texts)) <= 3000
    assert 1400 < len(request.prefix) <= 1500
    assert 400 < len(request.suffix) <= 500
    assert LINES.endswith(request.prefix)
    assert LINES.startswith(request.suffix)
    for text in texts:
        assert text.startswith("value_")
        assert text.endswith("\n")


async def test_a_short_document_leaves_room_for_others() -> None:
    request = await request_for(CompletionSettings(context_tokens=1000), prefix="value_1 = ", suffix="")
    assert (request.prefix, request.suffix) == ("value_1 = ", "")
    assert sum(len(file.text) for file in request.extra) > 1500


async def test_a_window_that_is_smaller_than_the_budget() -> None:
    request = await request_for(CompletionSettings(context_tokens=4000, max_tokens=100), window=500)
    texts = [request.prefix, request.suffix, *(file.text for file in request.extra)]
    assert 0 < sum(map(len, texts)) <= (500 - 100 - SPARE_TOKENS) * 3


async def test_a_window_in_which_nothing_fits() -> None:
    request = await request_for(CompletionSettings(max_tokens=100), window=120)
    assert (request.prefix, request.suffix, request.extra) == ("", "", ())


@pytest.mark.parametrize(("block", "tokens"), [(True, 128), (False, LINE_TOKENS)])
async def test_one_line_needs_fewer_tokens(block: bool, tokens: int) -> None:
    request = await request_for(block=block)
    assert request.options.max_tokens == tokens
    assert request.options.temperature == 0.0


async def test_a_server_that_takes_parts_gets_them() -> None:
    request = await request_for(backend="llamacpp", model="anything")
    assert request.prompt is None
    assert request.options.stop == ()
    assert request.extra


async def test_another_server_gets_a_prompt_in_the_models_marks() -> None:
    request = await request_for(CompletionSettings(context_tokens=1000))
    assert request.prompt
    assert request.prompt.startswith("<|repo_name|>")
    assert "<|file_sep|>/b/other.py\n" in request.prompt
    assert f"<|file_sep|>my file.py\n<|fim_prefix|>{request.prefix}<|fim_suffix|>" in request.prompt
    assert request.prompt.endswith(f"<|fim_suffix|>{request.suffix}<|fim_middle|>")
    assert "<|fim_middle|>" in request.options.stop


async def test_the_users_exclusions_hold() -> None:
    request = await request_for(CompletionSettings(exclude=("other.py",)))
    assert request.extra == ()


async def test_a_model_without_infill() -> None:
    with pytest.raises(UnsupportedError, match="no code model") as caught:
        await request_for(model="llama3.2:3b")
    assert "completion.family" in caught.value.hint


async def test_a_chat_model_that_the_user_allows() -> None:
    request = await any_request_for(
        CompletionSettings(chat=True, exclude=("other.py",)),
        server(),
        model="llama3.2:3b",
        question=Question("file:///a/my%20file.py", "x = ", "\ny", "python"),
    )
    assert isinstance(request, ChatRequest)
    assert request.messages[-1].content == f"my file.py:\nx = {CURSOR_MARK}\ny"
    assert request.options.max_tokens == CompletionSettings().max_tokens


async def test_a_family_that_the_user_names() -> None:
    request = await request_for(
        CompletionSettings(family="codestral"), model="my-own", prefix="a", suffix="b"
    )
    assert request.prompt
    assert request.prompt.startswith("[SUFFIX]b[PREFIX]")


async def test_extra_body_goes_along() -> None:
    request = await request_for(CompletionSettings(extra_body={"min_p": 0.1}))
    assert request.options.extra_body == {"min_p": 0.1}


async def test_a_request_in_its_form_keeps_its_own_stops() -> None:
    request = InfillRequest("codegemma", "a", "b", (ContextFile("c.py", "C"),))
    formed = await in_its_form(request, server(), path="d.py")
    assert formed.prompt == "c.py\nC<|file_separator|>d.py\n<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    assert (formed.prefix, formed.suffix, formed.extra) == (request.prefix, request.suffix, request.extra)
    assert varied(formed, 3).options.seed == 3
    assert varied(formed, 3).options.stop == formed.options.stop


def test_family_of_a_name_that_is_a_models() -> None:
    assert family_of("starcoder2:3b", "my-own").name == "starcoder2"
    assert family_of(None, "starcoder2:3b").name == "starcoder2"


TEXT = st.text(alphabet="ab\n\r é", max_size=60)


@given(TEXT, st.integers(min_value=0, max_value=80))
def test_cuts_keep_the_side_at_the_cursor(text: str, size: int) -> None:
    end, beginning = from_line(text, size), to_line(text, size)
    assert text.endswith(end)
    assert text.startswith(beginning)
    assert len(end) <= size or end == text
    assert len(beginning) <= size or beginning == text
    if size and text:
        assert end
        assert beginning


def test_cuts_fall_between_lines_where_there_are_any() -> None:
    assert from_line("one\ntwo\nthree", 9) == "two\nthree"
    assert from_line("one\ntwo\nthree", 8) == "three"
    assert from_line("a long line", 4) == "line"
    assert to_line("one\ntwo\nthree", 8) == "one\ntwo\n"
    assert to_line("one\ntwo\nthree", 7) == "one\n"
    assert to_line("a long line", 4) == "a lo"
    assert from_line("one\n", 3) == "ne\n"
