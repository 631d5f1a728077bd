"""Text at the cursor: what the daemon adds to llama.cpp's own `/infill`, and what a storm of typing does.

The server is a real one with a tiny random model, and a grammar keeps it writing letters: what it writes
means nothing, but takes the same time for everybody who asks.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.candidates import OURS, Stage
from tests.benchmarks.processes import BenchmarkError, Child, bare_environment
from tests.benchmarks.report import Outcome, Table, number
from tests.benchmarks.rounds import Sample, Samples, percentile, take_rounds
from tests.benchmarks.wire import Wire
from tests.fakes.llama_server import LlamaServer, llama_server
from tests.fakes.tiny_model import write_tiny_model

TOKENS = 8
"""Length of an answer whose latency is measured."""
LONG_TOKENS = 1500
"""Length of an answer that is still being written when it is no longer wanted: some 0.4 s."""
STORM = 30
GRAMMAR = "root ::= [a-z] root"
FILE = "".join(f"value_{line} = compute({line}, other_{line})\n" for line in range(20))
BEHIND = "\nprint(result)\n"
TITLES = {
    "direct": "`POST /infill`, blocking socket",
    "daemon": "**ollm-daemon, stdio**, no pause",
    "pausing": "**ollm-daemon, stdio**, default pause",
}


class Direct:
    """Asks the server itself, with the body that the daemon sends."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def complete(self, before: str) -> Sample:
        """One answer to its end."""
        body = {
            "input_prefix": before,
            "input_suffix": BEHIND,
            "input_extra": [],
            "stream": True,
            "cache_prompt": True,
            "temperature": 0.0,
            "n_predict": TOKENS,
            "grammar": GRAMMAR,
        }
        data = json.dumps(body).encode()
        with contextlib.closing(http.client.HTTPConnection(self._address)) as server:
            server.connect()
            began = time.monotonic_ns()
            server.request("POST", "/infill", data, {"Content-Type": "application/json"})
            answer = server.getresponse().read()
            ended = time.monotonic_ns()
        if answer.count(b"data: ") < TOKENS:
            raise BenchmarkError(f"the server answered {answer[:200]!r}")
        return {"ms": (ended - began) / 1e6}


@dataclass
class Editor:
    """A daemon, and one document that its client types in."""

    child: Child
    wire: Wire
    text: str = ""
    version: int = 0
    ids: list[int] = field(default_factory=list)

    def complete(self, before: str) -> Sample:
        """One answer: from the keystroke, then again at the same place, then while it is typed."""
        began = time.monotonic_ns()
        answer = self.wire.answer(self.types(before))
        offer = _offer_of(answer.result)
        if not offer:
            raise BenchmarkError("the daemon offered nothing")
        sample = {"ms": (answer.arrived - began) / 1e6}
        for name, typed in (("again ms", ""), ("typed ms", offer[0])):
            began = time.monotonic_ns()
            answer = self.wire.answer(self.types(before + typed))
            sample[name] = (answer.arrived - began) / 1e6
            if _offer_of(answer.result) != offer.removeprefix(typed):
                raise BenchmarkError(f"{_offer_of(answer.result)!r} is not what is left of {offer!r}")
        return sample

    def types(self, before: str) -> int:
        """Make this the text before the cursor, and ask there; gives the request's id."""
        self.version += 1
        uri = "file:///work/a.py"
        document = {"uri": uri, "version": self.version}
        if self.version == 1:
            opened = {**document, "languageId": "python", "text": before + BEHIND}
            self.wire.notify("textDocument/didOpen", {"textDocument": opened})
        elif before != self.text:
            changes = [_change(self.text, before)]
            params = {"textDocument": document, "contentChanges": changes}
            self.wire.notify("textDocument/didChange", params)
        self.text = before
        params = {
            "textDocument": {"uri": uri},
            "position": _position(before),
            "context": {"triggerKind": 2},
        }
        return self.wire.request("textDocument/inlineCompletion", params)

    def status(self) -> dict[str, Any]:
        """What the daemon says of its completions."""
        result = self.wire.answer(self.wire.request("ollm/status")).result
        counts: dict[str, Any] = result["completion"]
        return counts


def completion(stage: Stage) -> Outcome:
    """Latency beside the server's own, then storms."""
    if importlib.util.find_spec("xllamacpp") is None:
        table = Table("Text at the cursor", "Not measured: it needs the extra `embedded`.", ("",))
        return Outcome([table], {}, {})
    model = write_tiny_model(stage.folder / "tiny.gguf")
    with llama_server(model) as server:
        latencies = _take_latencies(stage, server)
        storms = _take_storms(stage, server)
    added = [
        daemon - direct
        for daemon, direct in zip(latencies.of("daemon", "ms"), latencies.of("direct", "ms"), strict=True)
    ]
    figures = {
        "completion added": percentile(added, 50),
        "completion added, p95": percentile(added, 95),
        "completion again": latencies.median("daemon", "again ms"),
        "completion typed": latencies.median("daemon", "typed ms"),
        "storm generations": storms.median("storm", "generations"),
        "storm unanswered": max(storms.of("storm", "unanswered")),
        "storm idle": max(storms.of("storm", "idle ms")),
    }
    tables = [_latency_table(latencies, added), _storm_table(storms)]
    return Outcome(tables, figures, {"completion": latencies, "storm": storms})


def _take_latencies(stage: Stage, server: LlamaServer) -> Samples:
    """Everybody asks at a place of their own, so that the server remembers as much for each."""
    places = iter(range(100_000, 999_999))

    def measure(_: str, candidate: Direct | Editor) -> Sample:
        return candidate.complete(f"{FILE}result_{next(places)} = ")

    with (
        _editor(stage.folder / "daemon", server, TOKENS, debounceMs=0) as daemon,
        _editor(stage.folder / "pausing", server, TOKENS) as pausing,
    ):
        candidates: dict[str, Direct | Editor] = {
            "direct": Direct(server.url),
            "daemon": daemon,
            "pausing": pausing,
        }
        return take_rounds(candidates, measure, stage.rounds(150, 40))


def _take_storms(stage: Stage, server: LlamaServer) -> Samples:
    """A second of typing, each keystroke asked for, and the last request taken back."""

    def measure(_: str, editor: Editor) -> Sample:
        before = editor.status()
        text = f"{FILE}result_{time.monotonic_ns()} = "
        ids = []
        for letter in range(STORM):
            text += f"f{letter}("  # opens a block each time, so that much is asked for
            ids.append(editor.types(text))
            time.sleep(1 / STORM)
        _wait_for_slot(server.url, is_processing=True)
        cancelled = time.monotonic_ns()
        editor.wire.notify("$/cancelRequest", {"id": ids[-1]})
        idle = _wait_for_slot(server.url, is_processing=False)
        answered = editor.wire.answers(ids)
        return {
            "generations": editor.status()["generations"] - before["generations"],
            "unanswered": STORM - answered,
            "idle ms": (idle - cancelled) / 1e6,
        }

    with _editor(stage.folder / "storm", server, LONG_TOKENS) as editor:
        return take_rounds({"storm": editor}, measure, stage.rounds(7, 2))


@contextlib.contextmanager
def _editor(home: Path, server: LlamaServer, tokens: int, **completion: Any) -> Iterator[Editor]:
    provider = {"kind": "openai-compatible", "backend": "llamacpp", "baseUrl": server.url}
    settings = {"maxTokens": tokens, "extraBody": {"grammar": GRAMMAR}, **completion}
    flags = {"provider": "bench", "model": "m", "providers": {"bench": provider}, "completion": settings}
    with Child((*OURS, "--stdio"), bare_environment(home)) as child:
        wire = Wire(child.stdout.fileno(), child.stdin.fileno())
        wire.initialize({"flags": flags})
        yield Editor(child, wire)


def _wait_for_slot(url: str, *, is_processing: bool) -> int:
    """When (ns) the server's one slot begins to be, or is no longer, busy; it is asked over and over."""
    server = http.client.HTTPConnection(urlsplit(url).netloc)
    with contextlib.closing(server):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            server.request("GET", "/slots")
            (slot,) = json.loads(server.getresponse().read())
            if slot["is_processing"] is is_processing:
                return time.monotonic_ns()
            select.select([], [], [], 0.0005)
    raise BenchmarkError(f"the server is {'never' if is_processing else 'always'} busy")


def _change(old: str, new: str) -> dict[str, Any]:
    """The end of the text before the cursor, replaced."""
    same = next((i for i, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), None)
    same = min(len(old), len(new)) if same is None else same
    return {"range": {"start": _position(old[:same]), "end": _position(old)}, "text": new[same:]}


def _position(text: str) -> dict[str, int]:
    return {"line": text.count("\n"), "character": len(text) - text.rfind("\n") - 1}


def _offer_of(result: Any) -> str:
    return str(result["items"][0]["insertText"]) if result["items"] else ""


def _latency_table(latencies: Samples, added: list[float]) -> Table:
    table = Table(
        "Text at the cursor",
        f"From a keystroke (its change and the request in one) to the offer: {TOKENS} tokens of a real "
        f"llama.cpp with a tiny random model, and {len(FILE)} characters before the cursor that it knows "
        "already. The default pause is what the daemon waits for the next keystroke, and follows how fast "
        "the user types.",
        ("", "p50 ms", "p95 ms", "added p50", "added p95"),
    )
    for name, title in TITLES.items():
        values = [latencies.percentile(name, "ms", percent) for percent in (50, 95)]
        extra = [percentile(added, percent) for percent in (50, 95)] if name == "daemon" else []
        table.rows.append([title, *map(number, [*values, *extra]), *[""] * (2 - len(extra))])
    for quantity, title in (
        ("again ms", "the same place again"),
        ("typed ms", "a letter of the offer typed"),
    ):
        values = [latencies.percentile("daemon", quantity, percent) for percent in (50, 95)]
        table.rows.append([title, *map(number, values), "", ""])
    return table


def _storm_table(storms: Samples) -> Table:
    table = Table(
        "A storm of typing",
        f"{STORM} keystrokes in a second, each followed by a request, with the default pause; the last "
        f"request is taken back while its {LONG_TOKENS} tokens are being written. Idle is when the server "
        "says so.",
        ("", "median", "worst"),
    )
    rows = (
        ("generations", "generations"),
        ("unanswered", "requests without an answer"),
        ("idle ms", "ms from the cancel to an idle server"),
    )
    for quantity, title in rows:
        values = [storms.median("storm", quantity), max(storms.of("storm", quantity))]
        table.rows.append([title, *map(number, values)])
    return table
