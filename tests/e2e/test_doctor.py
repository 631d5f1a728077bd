"""`ollm doctor` and `ollm models` as a person runs them, before real and scripted servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollm_daemon.providers.embedded import bundled_model
from tests.e2e.test_ollm_command import ollm, write_config
from tests.fakes.captures import OLLAMA
from tests.fakes.llama_server import llama_server, loading_llama_server
from tests.fakes.upstream import ScriptedUpstream, capture_reply, ndjson_reply

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.mark.real
async def test_two_servers_up_one_loading_one_that_wants_a_key_one_gone(
    tmp_path: Path, tiny_model: Path
) -> None:
    model = bundled_model()
    assert model is not None
    with (
        llama_server(model, context=1024) as ready,
        llama_server(tiny_model, api_key="secret") as locked,
        loading_llama_server(tmp_path / "pipe") as loading,
    ):
        write_config(
            tmp_path,
            "provider: box\n"
            "providers:\n"
            f"  box: {{kind: openai-compatible, baseUrl: '{ready.url}'}}\n"
            f"  locked: {{kind: openai-compatible, backend: lmstudio, baseUrl: '{locked.url}'}}\n"
            f"  slow: {{kind: openai-compatible, baseUrl: '{loading.url}'}}\n"
            "  gone: {kind: vllm, baseUrl: 'http://127.0.0.1:9'}\n",
        )
        run = await ollm(tmp_path, "doctor")
        assert (run.code, run.err) == (0, "")
        box, gone, key, slow, *rest = run.out.split("\n\n")
        lines = box.splitlines()
        assert lines[0].startswith("● llama.cpp")
        assert lines[0].endswith(f" at {ready.url}  (box, in use)  ready")
        assert "window 1024 of 8192" in box
        assert "first word after" in box
        assert "tokens/s" in box
        assert "the next answer began after" in box
        assert "→ Start llama-server with a larger `-c`" in box
        assert gone.startswith("○ vLLM at http://127.0.0.1:9  (gone)  does not answer")
        assert "→ Is the server running? Start it with `vllm serve MODEL`." in gone
        assert key.startswith(f"◌ llama.cpp at {locked.url}  (locked)  needs a key")
        assert "is llama.cpp, not LM Studio" in key
        assert "→ The server wants a key: set `providers.locked.apiKey`" in key
        assert slow.startswith(f"◐ llama.cpp at {loading.url}  (slow)  loading its model")
        assert "1 ready, 1 loading its model, 1 needs a key, 1 does not answer." in "".join(rest)

        run = await ollm(tmp_path, "doctor", "--json", "--no-generate")
        states = {one["provider"]: one["state"] for one in json.loads(run.out)["providers"]}
        expected = {"box": "ready", "locked": "locked", "slow": "loading", "gone": "unreachable"}
        assert states.items() >= expected.items()
        assert "secret" not in run.out


async def test_the_server_in_use_is_gone(tmp_path: Path) -> None:
    write_config(tmp_path, "provider: vllm\nproviders: {vllm: {baseUrl: 'http://127.0.0.1:9'}}\n")
    run = await ollm(tmp_path, "doctor", "--no-generate")
    assert run.code == 69
    assert "(vllm, in use)  does not answer" in run.out


async def test_a_wrong_configuration_is_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    write_config(tmp_path, "options:\n  topK: many\n")
    run = await ollm(tmp_path, "doctor", "--no-generate")
    assert "config.yaml:2: `options.topK`" in run.out
    assert "Traceback" not in run.err


PULL = [
    {"status": "pulling aa", "digest": "sha256:aa", "total": 10_000_000, "completed": 2_000_000},
    {"status": "pulling aa", "digest": "sha256:aa", "total": 10_000_000, "completed": 10_000_000},
    {"status": "success"},
]


async def test_models_from_the_shell(tmp_path: Path) -> None:
    replies = {
        "/api/tags": capture_reply(OLLAMA, "tags"),
        "/api/ps": capture_reply(OLLAMA, "ps"),
        "/api/show": capture_reply(OLLAMA, "show"),
        "/api/pull": ndjson_reply(PULL),
    }
    async with ScriptedUpstream(replies) as upstream:
        there = ("--provider", "local", "--host", upstream.url)
        listed = await ollm(tmp_path, *there, "models")
        assert "tools insert" in listed.out
        assert "tiny:latest" in listed.out
        loaded = await ollm(tmp_path, *there, "models", "ps")
        assert "tiny:latest" not in loaded.out
        shown = await ollm(tmp_path, *there, "models", "show", "smollm2")
        assert "trained for   8192 tokens" in shown.out
        pulled = await ollm(tmp_path, *there, "models", "pull", "qwen")
        assert pulled.code == 0
        assert "pulling aa: 2.0 MB of 10.0 MB" in pulled.err
        assert "qwen is here on local." in pulled.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("models", "rm"), "takes 1 MODEL"),
        (("models", "ps", "x"), "takes no MODEL"),
        (("models", "dance"), "is not known"),
        (("doctor", "x"), "unrecognized arguments: x"),
    ],
)
async def test_words_that_make_no_sense(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    run = await ollm(tmp_path, *words)
    assert (run.code, run.out) == (2, "")
    assert sentence in run.err


async def test_a_server_that_cannot_pull_says_what_to_do(tmp_path: Path) -> None:
    run = await ollm(tmp_path, "--provider", "vllm", "models", "pull", "x")
    assert run.code == 65
    assert "vLLM cannot download a model for others." in run.err
    assert "vllm serve MODEL" in run.err


async def test_an_image_is_sent_as_the_server_wants_it(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 8)
    replies = {
        "/api/tags": capture_reply(OLLAMA, "tags"),
        "/api/ps": capture_reply(OLLAMA, "ps"),
        "/api/chat": capture_reply(OLLAMA, "chat-stream"),
    }
    async with ScriptedUpstream(replies) as upstream:
        there = ("--provider", "local", "--host", upstream.url, "--image", "a.png", "-p", "What?")
        run = await ollm(tmp_path, *there, "--model", "smollm2", cwd=tmp_path)
        assert "smollm2 cannot see images." in run.err
        run = await ollm(tmp_path, *there, "--model", "unlisted", cwd=tmp_path)
        assert run.code == 0
        [message] = upstream.requests[-1].json()["messages"]
        assert (message["content"], len(message["images"])) == ("What?", 1)
