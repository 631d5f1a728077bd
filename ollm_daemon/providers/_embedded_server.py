"""The child process of `embedded`: llama.cpp's HTTP server from the `xllamacpp` wheel.

Reads one line of JSON from standard input (`model`, `alias`, `apiKey`), prints `LISTENING URL`, and
lives until standard input ends. The key comes that way because arguments and environment of a process
can be read by others.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from io import RawIOBase


def main() -> None:
    """Serve until standard input ends."""
    stdin: RawIOBase = os.fdopen(os.dup(0), "rb", buffering=0)
    order = json.loads(stdin.readline())
    threading.Thread(target=_exit_with, args=(stdin,), daemon=True).start()
    try:
        address = _serve(order)
    except Exception as error:  # noqa: BLE001 - whatever it is, the daemon is told
        _tell(f"FAILED {' '.join(str(error).split())}")
        os._exit(1)
    _tell(f"LISTENING {address}")
    threading.Event().wait()


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _exit_with(stdin: RawIOBase) -> None:
    """End the process when the daemon closes its end or dies."""
    while stdin.read(4096):
        pass
    os._exit(0)


def _serve(order: dict[str, str]) -> str:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.model_alias = {order["alias"]}
    params.api_keys = [order["apiKey"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 2
    params.n_ctx = 2 * 4096
    # Half the cores: with all of them busy elsewhere too, llama.cpp falls to a token a second.
    threads = max(1, min(8, (os.cpu_count() or 2) // 2))
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.use_jinja = True
    params.ui = False
    params.offline = True
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    _kept_alive.append(server)
    return str(server.listening_address)


_kept_alive: list[object] = []
"""The server's threads end with its object."""

if __name__ == "__main__":
    main()
