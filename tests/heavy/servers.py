"""Real servers as child processes, each on a free port of 127.0.0.1 and up when it is lent.

A server and all it starts is one process group: it ends with SIGTERM to the server, and what is then
left of the group is killed. What it wrote is in the file beside it, and in the error when it did not start.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from tests.heavy import installing

START = 900.0
"""Seconds a server may take to come up: imports and the first load on a slow, cold machine."""
STOP = 20.0
"""Seconds after which a server that was asked to end is killed."""
CONTEXT = 2048
"""Tokens that vLLM is told to fit a prompt and its answer into."""
RUNNING = "vllm:num_requests_running"
"""The metric of how many requests an engine works on."""

_LONGEST_PAUSE = 1.0
_THREADS = {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Server:
    """A server that is up."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self, name: str = "") -> None:
        """Kill it without warning, or those of its children whose title or command has `name` in it."""
        own = psutil.Process(self.process.pid)
        found = [own] if not name else own.children(recursive=True)
        victims = [p for p in found if name in f"{p.name()} {' '.join(p.cmdline())}"]
        assert victims, [p.cmdline() for p in found]
        for victim in victims:
            victim.send_signal(signal.SIGKILL)

    def metric(self, name: str) -> float:
        """The present value of a metric that has one, over all its labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(float(v) for v in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that another process does not tell of; it is asked again and again."""
    with anyio.fail_after(30):
        while not await anyio.to_thread.run_sync(holds):  # noqa: ASYNC110
            await anyio.sleep(0.05)


@contextmanager
def vllm(folder: Path, model: str, *options: str, api_key: str | None = None) -> Iterator[Server]:
    """VLLM with one model, under the model's name. `folder` gets its log and its own files."""
    python, weights = installing.vllm(), installing.models() / model
    port = free_port()
    command = [str(python), "-m", "vllm.entrypoints.cli.main", "serve", str(weights)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", model]
    command += ["--enforce-eager", "--max-model-len", str(CONTEXT), "--max-num-seqs", "4", *options]
    environment = {
        **_THREADS,
        **_OFFLINE,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CACHE_ROOT": str(folder / "cache"),
        "VLLM_CONFIG_ROOT": str(folder / "config"),
    }
    if api_key:
        environment["VLLM_API_KEY"] = api_key
    url = f"http://127.0.0.1:{port}"
    with _child(command, url, folder / f"vllm-{port}.log", environment) as server:
        _wait(server, lambda: _answers(f"{url}/health"))
        yield server


@contextmanager
def router(folder: Path, workers: Sequence[Server], policy: str) -> Iterator[Server]:
    """VLLM's router in front of running servers."""
    port, metrics = free_port(), free_port()
    command = [str(installing.router()), "-m", "vllm_router.launch_router", "--policy", policy]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics)]
    command += ["--worker-urls", *(worker.url for worker in workers)]
    url = f"http://127.0.0.1:{port}"
    with _child(command, url, folder / f"router-{port}.log", {}) as server:
        _wait(server, lambda: _answers(f"{url}/health"))
        yield server


@dataclass(frozen=True)
class FastChat:
    """FastChat's three processes; clients speak to the first."""

    api: Server
    controller: Server
    worker: Server | None


@contextmanager
def fastchat(folder: Path, model: str | None, api_key: str | None = None) -> Iterator[FastChat]:
    """FastChat with one model, or without any worker."""
    with ExitStack() as running:
        controller = running.enter_context(_fastchat_process(folder, "controller"))
        worker = None
        if model:
            weights = installing.models() / model
            worker = running.enter_context(
                _fastchat_process(
                    folder,
                    "model_worker",
                    *("--model-path", str(weights), "--model-names", model, "--device", "cpu"),
                    *("--conv-template", "vicuna_v1.1", "--controller-address", controller.url),
                )
            )
        keys = ("--api-keys", api_key) if api_key else ()
        api = running.enter_context(
            _fastchat_process(folder, "openai_api_server", "--controller-address", controller.url, *keys)
        )
        yield FastChat(api, controller, worker)


@contextmanager
def _fastchat_process(folder: Path, module: str, *options: str) -> Iterator[Server]:
    """One of FastChat's processes. A worker listens once it has registered; asking the others about it
    before makes the controller forget it for 45 seconds, so nothing is asked at all.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(installing.fastchat()), "-m", f"fastchat.serve.{module}"]
    command += ["--host", "127.0.0.1", "--port", str(port), *options]
    if module == "model_worker":
        command += ["--worker-address", url]
    environment = {**_THREADS, **_OFFLINE, "LOGDIR": str(folder)}
    with _child(command, url, folder / f"{module}-{port}.log", environment, folder) as server:
        _wait(server, lambda: _listens(port))
        yield server


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _child(
    command: list[str], url: str, log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[Server]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**kept, **environment},
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield Server(url, process, log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(server: Server, is_up: Callable[[], bool]) -> None:
    """Wait until a server answers; nothing but asking tells that another process is ready."""
    end, pause = time.monotonic() + START, 0.05
    while not is_up():
        if server.process.poll() is not None or time.monotonic() > end:
            last = "\n".join(server.log.read_text(errors="replace").splitlines()[-40:])
            raise RuntimeError(f"{server.process.args!r} did not start:\n{last}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
