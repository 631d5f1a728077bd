"""`ollm-daemon`: argv to flags, a transport, an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from ollm_daemon import __version__
from ollm_daemon.standard_streams import open_standard_streams

EXIT_CONFIG = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; gives 0 after `shutdown` and `exit`, 1 when the client left without, 78 when it
    cannot start as asked.
    """
    open_standard_streams()
    flags = _parse(list(sys.argv[1:] if argv is None else argv))
    if flags.tcp is not None:
        return _serve(flags, None)
    from ollm_daemon.server.greeting import claim_stdio, greet

    frames_in, frames_out = claim_stdio()
    return _serve(flags, (frames_in, frames_out, greet(frames_in, frames_out)))


def _serve(flags: Any, stdio: tuple[Any, ...] | None) -> int:
    """Import the rest, which takes a while, and run."""
    import asyncio
    import gc

    from ollm_daemon import logs
    from ollm_daemon.config.sources import read_environment
    from ollm_daemon.daemon import Daemon
    from ollm_daemon.errors import OllmError
    from ollm_daemon.server.transports import parse_listen_address

    logs.start(flags.log_level)
    try:
        new_loop = _uvloop() if flags.uvloop else None
        daemon = Daemon(read_environment())
        # What is there now stays; a full collection of it would hold up every stream for 30 ms.
        gc.freeze()
        if stdio is not None:
            serving = daemon.run_stdio(*stdio)
        else:
            address = parse_listen_address(flags.tcp, any_address=flags.allow_remote)
            serving = daemon.run_tcp(address)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(serving)
    except OllmError as error:
        sys.stderr.write(f"ollm-daemon: {error} {error.hint}".rstrip() + "\n")
        return EXIT_CONFIG


def _uvloop() -> Callable[[], Any]:
    """What makes uvloop's event loops. It is asked for and not just used, as its import takes 60 ms."""
    try:
        import uvloop
    except ImportError:
        from ollm_daemon.errors import ConfigError

        raise ConfigError(
            "uvloop is not installed.", hint="Install it with `pip install 'ollm-daemon[uvloop]'`."
        ) from None
    return uvloop.new_event_loop


def _parse(argv: list[str]) -> Any:
    """Flags; the usual start, without any, is not worth an import of argparse."""
    if argv in ([], ["--stdio"]):
        return SimpleNamespace(tcp=None, allow_remote=False, log_level="warning", uvloop=False)
    return _parser().parse_args(argv)


def _parser() -> Any:
    import argparse

    parser = argparse.ArgumentParser(
        prog="ollm-daemon",
        description="Local and self-hosted language models inside any editor, over JSON-RPC.",
    )
    transport = parser.add_mutually_exclusive_group()
    transport.add_argument(
        "--stdio", action="store_true", help="serve one client on standard streams (default)"
    )
    transport.add_argument(
        "--tcp", metavar="[HOST:]PORT", help="serve clients on a loopback port; 0 picks a free one"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="with --tcp, accept an address that is not loopback"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="warning",
        help="what goes to standard error (default: warning)",
    )
    parser.add_argument(
        "--uvloop",
        action="store_true",
        help="run on uvloop, which has to be installed: less CPU per token, a later start",
    )
    parser.add_argument("--version", action="version", version=f"ollm-daemon {__version__}")
    return parser
