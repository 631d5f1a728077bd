"""The tables of matrix.md, from the record of each backend and from what the adapters do with it.

    python docs/generate.py write     write matrix.md if it is stale
    python docs/generate.py check     exit 1 if `write` would write

A cell is a fact of a record, or what an encoder makes of a request for that backend; none is written by
hand. The prose between the tables is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder there, and not the packages beside it

from pydantic.alias_generators import to_camel  # noqa: E402

from ollm_daemon.config.resolve import resolve  # noqa: E402
from ollm_daemon.config.sources import load_environment  # noqa: E402
from ollm_daemon.daemon import default_layer  # noqa: E402
from ollm_daemon.domain import (  # noqa: E402
    ChatRequest,
    GenerationOptions,
    ImagePart,
    Message,
    ProviderSettings,
    ResponseFormat,
    Tool,
)
from ollm_daemon.errors import UnsupportedError  # noqa: E402
from ollm_daemon.providers import _ollama_dialect, _openai_dialect  # noqa: E402
from ollm_daemon.providers.backends import BACKENDS, DEFAULT_MAX_TOKENS  # noqa: E402
from ollm_daemon.providers.base import ProviderAdapter  # noqa: E402
from ollm_daemon.providers.facts import ALL_ACTIONS, Backend, ModelAction  # noqa: E402
from ollm_daemon.providers.local import LocalProvider  # noqa: E402
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider  # noqa: E402
from ollm_daemon.providers.vllm import (  # noqa: E402
    FIRST_TO_TELL,
    JSON_SCHEMA_SINCE,
    STRUCTURED_OUTPUTS_SINCE,
    Version,
    encode_constraint,
)

PAGE = Path("docs") / "matrix.md"
NO = "–"
REFUSED = "no"
_TOOL = Tool("look", "Looks.", {"type": "object"})
_OTHER_TOOL = replace(_TOOL, name="listen")
_MANY_STOPS = tuple(f"stop {number}" for number in range(50))
_WANTED = {
    "json": ResponseFormat("json"),
    "jsonSchema": ResponseFormat("jsonSchema", {"type": "object"}),
    "regex": ResponseFormat("regex", "a+"),
    "choice": ResponseFormat("choice", ["yes", "no"]),
    "grammar": ResponseFormat("grammar", 'root ::= "yes"'),
}
_SHAPES = {
    "choice_gbnf": "as a grammar",
    "choice_regex": "as a pattern",
    "json_gbnf": "as a grammar of any JSON",
    "object_schema": "as a schema of any object",
}
_VARIABLES = (
    "OLLAMA_HOST",
    "VLLM_HOST",
    "VLLM_API_KEY",
    "OPENAI_COMPATIBLE_HOST",
    "OPENAI_COMPATIBLE_API_KEY",
)
_INFILL = {"infill": "`/infill`", "suffix": "`suffix`", "prompt": "markers in the prompt"}


@dataclass(frozen=True, slots=True)
class Server:
    """One row: a backend under the provider that is built in for it."""

    backend: Backend
    settings: ProviderSettings

    @property
    def title(self) -> str:
        """Its name at the beginning of a cell."""
        return self.backend.title_first

    @property
    def adapter(self) -> ProviderAdapter:
        """What speaks to it; it connects to nothing."""
        if self.settings.kind == "local":
            return LocalProvider(self.settings)
        return OpenAICompatibleProvider(self.settings, self.backend)

    def encode(self, **fields: Any) -> dict[str, Any] | None:
        """The body that asks this server, or `None` when the request is refused before that."""
        request = ChatRequest(**{"model": "m", "messages": (Message("user", "Hello"),), **fields})
        try:
            if self.settings.kind == "local":
                return _ollama_dialect.encode_chat(request)
            return _openai_dialect.encode_chat(request, self.backend)
        except UnsupportedError:
            return None


def all_servers() -> list[Server]:
    """Every backend, in the order of the records."""
    settings = resolve([default_layer()])
    names = {**settings.aliases, "generic": "openai-compatible"}
    return [Server(backend, settings.providers[names.get(name, name)]) for name, backend in BACKENDS.items()]


# cells


def code(text: str) -> str:
    """Text as code."""
    return f"`{text}`"


def variables(server: Server) -> str:
    """What in the environment is about this provider."""
    found = []
    for variable in _VARIABLES:
        layer = load_environment({variable: "http://host:1" if variable.endswith("HOST") else "key"})
        if any(key.startswith(f"providers.{server.settings.name}.") for key in layer.values):
            found.append(code(variable))
    return ", ".join(found) or NO


def address(server: Server) -> str:
    """Where it listens unless told otherwise."""
    return code(str(server.settings.base_url)) if server.backend.start else NO


def tools(server: Server) -> str:
    """Whether tools can be offered."""
    return "yes" if server.encode(tools=(_TOOL,)) else REFUSED


def named_tool(server: Server) -> str:
    """What becomes of a `toolChoice` that names one of two tools."""
    body = server.encode(tools=(_TOOL, _OTHER_TOOL), tool_choice=_TOOL.name)
    if body is None:
        return REFUSED
    choice = body.get("tool_choice")
    if len(body["tools"]) == 1:
        return "offered alone, and required" if choice == "required" else "offered alone"
    return "yes" if isinstance(choice, dict) else "no: the model chooses"


def images(server: Server) -> str:
    """Whether images can be sent."""
    picture = Message("user", (ImagePart("image/png", "AA=="),))
    return "yes" if server.backend.images and server.encode(messages=(picture,)) else REFUSED


def probabilities(server: Server) -> str:
    """Whether `topLogprobs` can be asked for."""
    return "yes" if server.encode(options=GenerationOptions(top_logprobs=1)) else REFUSED


def stops(server: Server) -> str:
    """How many stop strings the server is sent; the daemon watches for the rest."""
    body = server.encode(options=GenerationOptions(stop=_MANY_STOPS)) or {}
    sent = body.get("stop") or body["options"]["stop"]
    return "any number" if len(sent) == len(_MANY_STOPS) else f"{len(sent)}; the daemon watches for more"


def cancel(server: Server) -> str:
    """How a generation is stopped."""
    abort = server.backend.abort
    return f"connection closed, then {code(f'POST {abort[0]}')}" if abort else "connection closed"


def infill(server: Server) -> str:
    """How the server fills in the middle."""
    return _INFILL[server.backend.infill]


def constraint(server: Server, kind: str) -> str:
    """The key of the body that takes a constraint, and in which shape."""
    plain, body = server.encode(), server.encode(response_format=_WANTED[kind])
    if body is None or plain is None:
        return REFUSED
    keys = ", ".join(code(key) for key in body if key not in plain)
    route = server.backend.formats[kind]
    return " ".join([keys, *([_SHAPES[route.encoding]] if route.encoding in _SHAPES else [])])


def checked(server: Server) -> str:
    """Constraints whose answers are held against their schema or pattern."""
    return ", ".join(code(kind) for kind in ("jsonSchema", "regex") if kind in server.backend.checked) or NO


def structured(server: Server) -> str:
    """Every constraint there is."""
    return ", ".join(code(kind) for kind in _WANTED if kind in server.backend.formats) or "none"


def listing(server: Server) -> str:
    """Whether its models can be listed."""
    return "yes" if server.adapter.capabilities.list_models else REFUSED


def action(server: Server, name: ModelAction) -> str:
    """The route of an action on a model."""
    step = server.backend.actions.get(name)
    if step is None:
        return REFUSED
    return code(f"{step.method} {step.path}") + (" (administrator)" if step.needs_admin else "")


def window(server: Server) -> str:
    """Where the context window is learnt from."""
    backend = server.backend
    known = ["list of models"] if backend.lists_windows else []
    known += [code(backend.window.path)] if backend.window else []
    return ", ".join(known) or "your `contextLength`"


def counting(server: Server) -> str:
    """How tokens are counted."""
    route = server.backend.count
    if route is None:
        return "estimate"
    return code(f"POST {route.path}") + (" (bare text)" if route.takes == "text" else "")


def too_long(server: Server) -> str:
    """Who refuses a prompt that does not fit."""
    return "the daemon; the server would cut it" if server.backend.cuts_silently else "the server"


def other_model(server: Server) -> str:
    """What an unknown name of a model leads to."""
    return "the loaded one answers, with a warning" if server.backend.ignores_model else "an error"


def changed_options(server: Server) -> str:
    """Options that go out under another name or not at all, and what is added."""
    backend = server.backend
    renamed = [
        f"{code(to_camel(ours))} is sent as {code(theirs)}" for ours, theirs in backend.renamed.items()
    ]
    left_out = ", ".join(code(to_camel(ours)) for ours in sorted(backend.unsupported))
    added = [f"{code(f'maxTokens: {DEFAULT_MAX_TOKENS}')} unless set"] if backend.requires_max_tokens else []
    return "; ".join([*renamed, *([f"{left_out} left out"] if left_out else []), *added]) or NO


def session(server: Server) -> str:
    """The header that keeps one conversation on one replica."""
    return code(server.backend.session_header) if server.backend.session_header else NO


# tables


def columns(rows: Iterable[Server], cells: Mapping[str, Callable[[Server], str]]) -> str:
    """One row per server."""
    return table(("Server", *cells), ((row.title, *(cell(row) for cell in cells.values())) for row in rows))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tiers_table(rows: Sequence[Server]) -> str:
    """The three kinds side by side; what differs between servers of one kind is named."""
    kinds = ("local", "vllm", "openai-compatible")

    def cell(kind: str, look: Callable[[Server], str]) -> str:
        said: dict[str, list[str]] = {}
        for row in rows:
            if row.settings.kind == kind:
                said.setdefault(look(row), []).append(row.backend.title)
        count = sum(map(len, said.values()))
        named = [f"{text}: {', '.join(titles)}" for text, titles in said.items() if len(titles) * 2 <= count]
        return "; ".join([*(text for text, titles in said.items() if len(titles) * 2 > count), *named])

    def can(name: ModelAction) -> Callable[[Server], str]:
        return lambda row: "yes" if name in row.backend.actions else "no"

    features: Mapping[str, Callable[[Server], str]] = {
        "Streaming format": lambda row: row.adapter.streaming_format.upper(),
        "Default port": lambda row: code(str(row.settings.base_url.port)),
        "In the environment": variables,
        "Tool calling": tools,
        "Images": images,
        "Model listing": listing,
        **{f"Model {name}": can(name) for name in ALL_ACTIONS},
        "Structured output": structured,
    }
    body = ((name, *(cell(kind, look) for kind in kinds)) for name, look in features.items())
    return table(("", *map(code, kinds)), body)


def vllm_table() -> str:
    """What a constraint becomes on each range of versions."""
    edges: list[Version] = sorted({FIRST_TO_TELL, JSON_SCHEMA_SINCE, STRUCTURED_OUTPUTS_SINCE})
    names = [".".join(map(str, edge)) for edge in edges]
    spans = [*(f"{low} to before {high}" for low, high in pairwise(names)), f"{names[-1]} and newer"]
    kinds = [kind for kind in _WANTED if kind != "json"]
    rows = (
        (span, *(", ".join(map(code, encode_constraint(_WANTED[kind], edge))) for kind in kinds))
        for span, edge in zip(spans, edges, strict=True)
    )
    return table(("vLLM", *map(code, kinds)), rows)


def instead_table(rows: Iterable[Server]) -> str:
    """What to do where a server has no such action."""
    found = []
    for row in rows:
        by_sentence: dict[str, list[str]] = {}
        for name in ALL_ACTIONS:
            if name not in row.backend.actions:
                by_sentence.setdefault(row.backend.instead[name], []).append(name)
        for sentence, names in by_sentence.items():
            found.append((row.title, ", ".join(names), sentence.replace("{model}", "MODEL")))
    return table(("Server", "Refused", "Do this instead"), found)


def tables() -> dict[str, str]:
    """Every table by its name in the page."""
    rows = all_servers()
    return {
        "tiers": tiers_table([row for row in rows if row.backend.start]),
        "servers": columns(
            rows,
            {
                "Provider": lambda row: code(row.settings.name),
                "Kind": lambda row: code(row.settings.kind),
                "Streams": lambda row: row.adapter.streaming_format.upper(),
                "Default address": address,
                "In the environment": variables,
                "Start": lambda row: row.backend.start or NO,
            },
        ),
        "asking": columns(
            rows,
            {
                "Tools": tools,
                "One tool by name": named_tool,
                "Images": images,
                "Probabilities": probabilities,
                "Stop strings": stops,
                "Cancel": cancel,
                "Fill-in-the-middle": infill,
            },
        ),
        "options": columns(
            rows,
            {
                "Options": changed_options,
                "Unknown model": other_model,
                "Session header": session,
            },
        ),
        "formats": columns(
            rows,
            {**{code(kind): partial(constraint, kind=kind) for kind in _WANTED}, "Checked here": checked},
        ),
        "vllm": vllm_table(),
        "models": columns(
            rows, {"List": listing, **{name.capitalize(): partial(action, name=name) for name in ALL_ACTIONS}}
        ),
        "instead": instead_table(rows),
        "window": columns(
            rows,
            {
                "Window from": window,
                "Tokens counted by": counting,
                "Too long a prompt is refused by": too_long,
            },
        ),
    }


def fill(page: str) -> str:
    """The page with every table between `<!-- generated: … -->` and `<!-- end -->` made anew."""
    made = tables()
    return re.sub(
        r"<!-- generated: (.+?) -->.*?<!-- end -->",
        lambda match: f"<!-- generated: {match[1]} -->\n\n{made[match[1]]}\n\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Write or check; gives the exit code."""
    command = arguments[0] if len(arguments) == 1 else ""
    if command not in ("write", "check"):
        print("usage: python docs/generate.py write|check")
        return 2
    page = root / PAGE
    text = page.read_text(encoding="utf-8")
    wanted = fill(text)
    if wanted == text:
        return 0
    print(f"{'wrote' if command == 'write' else 'stale'}: {PAGE.as_posix()}")
    if command == "check":
        print("Run `python docs/generate.py write`.")
        return 1
    page.write_text(wanted, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
