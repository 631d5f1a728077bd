"""The table of candidates, and how each of them is started and made to read a stream."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.peers import PEERS, NotAvailable, install
from tests.benchmarks.processes import ROOT, BenchmarkError, Child, Upstream, bare_environment
from tests.benchmarks.report import Table
from tests.benchmarks.scenario import Scenario
from tests.benchmarks.wire import Wire

HERE = ROOT / "tests" / "benchmarks"
PYTHON = (sys.executable, "-P")
OURS = (*PYTHON, "-m", "ollm_daemon")
FLOOR = (*PYTHON, str(HERE / "floor_daemon.py"))
_LISTENING = re.compile(r"listens on 127\.0\.0\.1:(\d+)(?:; its token is in (.+))?")


@dataclass(frozen=True, slots=True)
class Spec:
    """One candidate.

    Attributes:
        title: How it is called in tables.
        command: What is run.
        transport: How a daemon is reached; `None` for a reader.
        kind: The provider kind a daemon is given.
        peer: Whose environment it needs, if not our own.
        share: Part of the tokens of a burst that it is given, as slow ones are measured well with fewer.
        parses: Whether it looks at what it reads.
    """

    title: str
    command: tuple[str, ...]
    transport: Literal["stdio", "tcp"] | None = None
    kind: str = "openai-compatible"
    peer: str | None = None
    share: float = 1.0
    parses: bool = True


def _reader(kind: str, title: str, peer: str | None = None, share: float = 1.0) -> Spec:
    return Spec(title, (*PYTHON, str(HERE / "readers.py"), kind), peer=peer, share=share)


def _drain(kind: str, title: str) -> Spec:
    return replace(_reader(kind, f"{title}, nothing parsed"), parses=False)


SPECS: Mapping[str, Spec] = {
    "socket": _drain("socket", "blocking socket"),
    "asyncio": _drain("asyncio", "asyncio streams"),
    "httpx-bytes": _drain("httpx-bytes", "httpx `aiter_bytes`"),
    "httpx-lines": _reader("httpx-lines", "httpx `aiter_lines` + `json.loads`"),
    "httpx-sse": _reader("httpx-sse", "httpx-sse", "httpx-sse"),
    "ollama": _reader("ollama", "ollama-python (NDJSON)", "ollama", 0.5),
    "openai": _reader("openai", "openai-python", "openai", 0.1),
    "any-llm": _reader("any-llm", "any-llm", "any-llm", 0.1),
    "litellm": _reader("litellm", "litellm", "litellm", 0.05),
    "floor-stdio": Spec("floor daemon, stdio", FLOOR, "stdio"),
    "floor-tcp": Spec("floor daemon, TCP", FLOOR, "tcp"),
    "stdio": Spec("**ollm-daemon, stdio**", OURS, "stdio"),
    "tcp": Spec("**ollm-daemon, TCP**", OURS, "tcp"),
    "stdio-uvloop": Spec("**ollm-daemon, stdio** (uvloop)", (*OURS, "--uvloop"), "stdio"),
    "stdio-ndjson": Spec("**ollm-daemon, stdio** (NDJSON)", OURS, "stdio", kind="local"),
}
PEER_READERS = tuple(name for name, spec in SPECS.items() if spec.peer)


@dataclass(slots=True)
class Reading:
    """One stream, read to its end: when it was asked for and when its first token was there (ns)."""

    started: int
    first: int


class Reader:
    """A candidate that reads streams itself."""

    def __init__(self, child: Child, spec: Spec, url: str) -> None:
        self.child = child
        self._parses = spec.parses
        self._url = url
        child.lines.next()

    def stream(self, scenario: Scenario) -> Reading:
        """Read one stream to its end."""
        order = {"url": self._url, "model": scenario.model}
        self.child.stdin.write(json.dumps(order).encode() + b"\n")
        result = json.loads(self.child.lines.next())
        if self._parses and result["characters"] != scenario.text_length:
            raise BenchmarkError(f"{result['characters']} characters of {scenario.text_length} were read")
        return Reading(result["started"], result["first"])

    def close(self) -> None:
        """Nothing but the process is held."""


class DaemonProcess:
    """A candidate that is a daemon, and its first client."""

    def __init__(self, child: Child, spec: Spec, url: str) -> None:
        self.child = child
        provider = {"kind": spec.kind, "baseUrl": url}
        flags = {"provider": "bench", "model": "m", "providers": {"bench": provider}}
        self._options: dict[str, Any] = {"flags": flags}
        self._port = 0
        if spec.transport == "tcp":
            found = _LISTENING.search(child.complaints.next())
            if found is None:
                raise BenchmarkError("the daemon does not listen")
            self._port = int(found[1])
            if found[2]:
                self._options["token"] = json.loads(Path(found[2]).read_text())["token"]
            self.wire = self.connect()
        else:
            self.wire = Wire(child.stdout.fileno(), child.stdin.fileno())
            self.wire.initialize(self._options)

    def connect(self) -> Wire:
        """One more client over TCP."""
        wire = Wire.to_port(self._port)
        wire.initialize(self._options)
        return wire

    def stream(self, scenario: Scenario) -> Reading:
        """Ask for one stream and drain it to its end."""
        started = time.monotonic_ns()
        answer = self.wire.answer(self.wire.chat(scenario.model))
        length = len(answer.result["message"]["content"])
        if length != scenario.text_length:
            raise BenchmarkError(f"{length} characters of {scenario.text_length} arrived")
        return Reading(started, answer.deltas[0][0])

    def close(self) -> None:
        """Close the first client's connection."""
        self.wire.close()


@dataclass(slots=True)
class Stage:
    """What every measurement has: the upstream, room for candidates' homes, and how thorough to be."""

    upstream: Upstream
    folder: Path
    quick: bool
    with_peers: bool
    missing: dict[str, str] = field(default_factory=dict)

    def rounds(self, full: int, quick: int) -> int:
        """How many rounds to take."""
        return quick if self.quick else full

    @contextlib.contextmanager
    def readers_and_daemons(self, *names: str) -> Iterator[dict[str, Reader | DaemonProcess]]:
        """Candidates by name, running; peers that cannot be had are left out and named in `missing`."""
        with contextlib.ExitStack() as stack:
            running: dict[str, Reader | DaemonProcess] = {}
            for name in names:
                try:
                    running[name] = stack.enter_context(self._candidate(name))
                except NotAvailable as error:
                    self.missing[name] = str(error)
            yield running

    def add_missing(self, table: Table, names: Sequence[str]) -> None:
        """Rows that say why there are no figures, where figures were asked for."""
        for name in names:
            if self.with_peers and name in self.missing:
                title = SPECS[name].title if name in SPECS else name
                table.rows.append([title, self.missing[name], *[""] * (len(table.header) - 2)])

    @contextlib.contextmanager
    def daemons(self, *names: str) -> Iterator[dict[str, DaemonProcess]]:
        """Daemons by name, running."""
        with self.readers_and_daemons(*names) as running:
            yield {name: one for name, one in running.items() if isinstance(one, DaemonProcess)}

    @contextlib.contextmanager
    def _candidate(self, name: str) -> Iterator[Reader | DaemonProcess]:
        spec = SPECS[name]
        command = spec.command
        if spec.peer:
            if not self.with_peers:
                raise NotAvailable("not asked for")
            command = (str(install(PEERS[spec.peer]) / "bin" / "python"), *command[1:])
        if spec.transport == "tcp":
            command = (*command, "--tcp", "0")
        elif spec.transport == "stdio":
            command = (*command, "--stdio")
        with Child(command, bare_environment(self.folder / name)) as child:
            try:
                candidate = self._begin(child, spec)
            except (BenchmarkError, OSError) as error:
                if spec.peer:
                    raise NotAvailable("does not work here") from error
                raise BenchmarkError(f"{name} does not start: {error}. {child.last_words()}") from error
            with contextlib.closing(candidate):
                yield candidate

    def _begin(self, child: Child, spec: Spec) -> Reader | DaemonProcess:
        """What talks to a process that has just been started; a reader has to prove itself."""
        if spec.transport:
            return DaemonProcess(child, spec, self.upstream.url)
        reader = Reader(child, spec, self.upstream.url)
        reader.stream(Scenario("burst", 10))
        return reader
