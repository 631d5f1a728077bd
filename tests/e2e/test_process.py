"""The daemon as a process on standard streams: how it starts, ends, and keeps descriptor 1 clean."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import Process, chat_params, flags, over_stdio, process_environment
from tests.fakes.upstream import End, Reply, ScriptedUpstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BEGUN = capture(OLLAMA, "chat-stream")
BEGUN = BEGUN[: BEGUN.index(b" colour")]


async def streaming(process: Process, upstream: ScriptedUpstream) -> None:
    """Bring the daemon into the middle of a stream."""
    await process.peer.initialize(options=flags(upstream.url, "local"))
    process.peer.ask("ollm/chat", chat_params(streamToken=1))
    await process.peer.until(lambda: process.peer.text(1))


async def test_a_polite_client_gets_exit_code_0(tmp_path: Path) -> None:
    async with over_stdio(tmp_path) as process:
        await process.peer.initialize()
        await process.peer.request("shutdown")
        process.peer.notify("exit")
        assert await process.exit_code(2) == 0
        assert process.stderr == b""


async def test_exit_without_shutdown_is_1(tmp_path: Path) -> None:
    async with over_stdio(tmp_path) as process:
        await process.peer.initialize()
        process.peer.notify("exit")
        assert await process.exit_code(2) == 1


ENDINGS: dict[str, Callable[[Any], object]] = {
    "end of input": lambda process: process.process.stdin.close(),
    "SIGTERM": lambda process: process.signal(signal.SIGTERM),
    "SIGINT": lambda process: process.signal(signal.SIGINT),
    "SIGHUP": lambda process: process.signal(signal.SIGHUP),
    "end of input in mid-message": lambda process: (
        process.peer.send_bytes(b"Content-Length: 100\r\n\r\n{"),
        process.process.stdin.close(),
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_it_ends_within_2_seconds_while_streaming(tmp_path: Path, ending: str) -> None:
    async with ScriptedUpstream(Reply(BEGUN, End.STALL)) as upstream, over_stdio(tmp_path) as process:
        await streaming(process, upstream)
        ENDINGS[ending](process)
        assert await process.exit_code(2) == 1
        await upstream.connections[0].peer_closed()


async def test_it_ends_with_the_process_of_its_client(tmp_path: Path) -> None:
    """Another process may hold the pipe open; the client named in `initialize` is gone all the same."""
    client = await asyncio.create_subprocess_exec("sleep", "60")
    async with over_stdio(tmp_path) as process:
        await process.peer.initialize(pid=client.pid)
        client.kill()
        await client.wait()
        assert await process.exit_code(5) == 1


async def test_a_client_that_is_already_gone_ends_it(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    async with over_stdio(tmp_path) as process:
        process.peer.ask("initialize", {"processId": int(gone.stdout), "capabilities": {}})
        assert await process.exit_code(5) == 1


async def test_prints_of_libraries_cannot_reach_the_client(tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    (noise / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "class Loud:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ollm_daemon.generation':\n"
        "            import os\n"
        "            print('noise'); os.write(1, b'more noise')\n"
        "sys.meta_path.insert(0, Loud())\n"
    )
    async with over_stdio(tmp_path, environment={"PYTHONPATH": str(noise)}) as process:
        result = await process.peer.initialize()
        assert result["serverInfo"]["name"] == "ollm-daemon"
        await process.peer.until(lambda: b"more noise" in process.stderr)
        assert await process.peer.request("ollm/status")


async def test_it_opens_no_listening_socket(tmp_path: Path) -> None:
    async with over_stdio(tmp_path) as process:
        await process.peer.initialize()
        await process.peer.request("ollm/status")
        listening = {
            line.split()[9]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        }
        sockets = {
            str(link.readlink()).removeprefix("socket:[").removesuffix("]")
            for link in Path(f"/proc/{process.pid}/fd").iterdir()
        }
        assert not listening & sockets


BROKEN_ENVIRONMENTS = {
    "no home": {"HOME": ""},
    "a home that is a file": {"HOME": "/dev/null"},
    "a home that is not there": {"HOME": "/no/such/place"},
    "an odd locale": {"LC_ALL": "xx_YY.nonsense", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    "a configuration that is a folder": {"OLLM_CONFIG": "/"},
    "a configuration that is a device": {"OLLM_CONFIG": "/dev/zero"},
    "a broken host": {"OLLAMA_HOST": "http://[::1"},
    "a broken state folder": {"XDG_STATE_HOME": "/proc/1/nowhere"},
}


@pytest.mark.parametrize("name", BROKEN_ENVIRONMENTS)
async def test_it_comes_up_in_a_broken_environment(tmp_path: Path, name: str) -> None:
    async with over_stdio(tmp_path, environment=BROKEN_ENVIRONMENTS[name]) as process:
        await process.peer.initialize()
        assert "settings" in await process.peer.request("ollm/config/get")


async def test_a_closed_standard_error_is_no_obstacle(tmp_path: Path) -> None:
    command = ("sh", "-c", f"exec {sys.executable} -P -m ollm_daemon 2>&-")
    async with over_stdio(tmp_path, command=command) as process:
        await process.peer.initialize()
        process.peer.send_bytes(b"Content-Length: 2\r\n\r\n{]")
        assert (await process.peer.answer(None))["error"]["code"] == -32700


async def test_files_serve_as_standard_streams(tmp_path: Path) -> None:
    """Descriptors that an event loop cannot wait for are read and written by threads."""
    from ollm_daemon.server.framing import encode_frame

    requests = tmp_path / "in"
    requests.write_bytes(
        encode_frame(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}')
        + encode_frame(b'{"jsonrpc":"2.0","id":2,"method":"shutdown"}')
        + encode_frame(b'{"jsonrpc":"2.0","method":"exit"}')
    )
    answers = tmp_path / "out"
    with requests.open("rb") as stdin, answers.open("wb") as stdout:
        process = await anyio.open_process(
            [sys.executable, "-P", "-m", "ollm_daemon"],
            stdin=stdin,
            stdout=stdout,
            env=process_environment(tmp_path),
        )
        async with process:
            with anyio.fail_after(10):
                assert await process.wait() == 0
    assert answers.read_bytes().count(b"Content-Length: ") == 2


async def test_the_folder_it_runs_in_is_not_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ollm_daemon").mkdir()
    (tmp_path / "ollm_daemon" / "__init__.py").write_text("raise SystemExit('imported from the repository')")
    monkeypatch.chdir(tmp_path)
    async with over_stdio(tmp_path) as process:
        await process.peer.initialize()
