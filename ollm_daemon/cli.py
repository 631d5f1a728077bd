"""`ollm-daemon`: argv to flags, a transport, an exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from ollm_daemon import __version__

EXIT_USAGE = 2
EXIT_CONFIG = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; gives 0 after `shutdown` and `exit`, 1 when the client left without, 78 when it
    cannot start as asked.
    """
    flags = _parser().parse_args(argv)
    frames = None
    if flags.tcp is None:
        from ollm_daemon.server.platforms import claim_stdio

        frames = claim_stdio()
    from ollm_daemon import logs
    from ollm_daemon.config.sources import read_environment
    from ollm_daemon.daemon import Daemon
    from ollm_daemon.errors import OllmError
    from ollm_daemon.server.transports import parse_listen_address

    logs.start(flags.log_level)
    try:
        if frames is not None:
            return asyncio.run(_run(Daemon(read_environment()).run_stdio, *frames))
        address = parse_listen_address(flags.tcp, any_address=flags.allow_remote)
        return asyncio.run(_run(Daemon(read_environment()).run_tcp, address))
    except OllmError as error:
        sys.stderr.write(f"ollm-daemon: {error} {error.hint}".rstrip() + "\n")
        return EXIT_CONFIG


async def _run(function: object, *arguments: object) -> int:
    code: int = await function(*arguments)  # type: ignore[operator]
    return code


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("--version", action="version", version=f"ollm-daemon {__version__}")
    return parser
