"""The wire contract as files: JSON Schema, OpenRPC, TypeScript, tables of SPEC.md, VS Code's settings.

    python protocol/generate.py write     write every generated file that is stale
    python protocol/generate.py check     exit 1 and name the files that `write` would write

Everything is derived from `ollm_daemon.protocol`, `ollm_daemon.config.options` and
`ollm_daemon.errors`, and from what is written by hand here: the prose of SPEC.md and the examples.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder there, and not the packages beside it

from ollm_daemon.protocol.methods import METHODS  # noqa: E402
from protocol import _manifest, _render, _schemas  # noqa: E402

SPEC = "protocol/SPEC.md"
MANIFEST = "clients/vscode/package.json"
MANIFEST_WORDS = "clients/vscode/package.nls.json"


@dataclass(frozen=True, slots=True)
class Example:
    """One file of `examples/`. `part` is request, response, error or notification."""

    name: str
    method: str
    part: str
    message: dict[str, Any]

    @property
    def ts_type(self) -> str:
        """Its type in `clients/vscode/test/protocol/messages.ts`."""
        return "Failure" if self.part == "error" else f'{self.part.capitalize()}<"{self.method}">'


def file_name(method: str) -> str:
    """`ollm/config/didChange` as `config-did-change`."""
    return re.sub(r"([A-Z])", r"-\1", method.removeprefix("ollm/").replace("/", "-")).lower()


def read_example(name: str, text: str) -> Example:
    """The example in a file that is named `<method>[.<part>][.<case>]`; without a part it is a notification.

    Raises:
        ValueError: The name is another one, or the text is not JSON.
    """
    methods = {file_name(method): method for method in ("initialize", *METHODS)}
    first, *rest = name.split(".")
    part = rest[0] if rest and rest[0] in ("request", "response", "error") else "notification"
    if first not in methods and part != "error":
        raise ValueError(f"examples/{name}.json is not named for a method")
    return Example(name, methods.get(first, ""), part, json.loads(text))


def ts_examples(examples: Iterable[Example]) -> str:
    """`protocol-examples.gen.ts`: the compiler holds each example against its type."""
    examples = list(examples)
    lines = [f"// {_schemas.NOTICE}", ""]
    types = sorted({example.ts_type.partition("<")[0] for example in examples})
    lines += [f'import type {{ {", ".join(types)} }} from "./messages.js";', "", "export const examples = {"]
    for example in examples:
        text = json.dumps(example.message, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        lines.append(f"  {json.dumps(example.name)}: {text} satisfies {example.ts_type},")
    return "\n".join([*lines, "};", ""])


def outputs(kept: Mapping[str, str], examples: Iterable[Example]) -> dict[str, str]:
    """Every generated file by its path from the root of the repository.

    Args:
        kept: Text of the files of which only a part is generated.
    """
    definitions, settings = _schemas.wire_definitions(), _schemas.settings_schema()
    return {
        "protocol/schema.json": _json_text(_schemas.json_schema(definitions)),
        "protocol/openrpc.json": _json_text(_schemas.open_rpc(definitions)),
        "protocol/settings.schema.json": _json_text(settings),
        SPEC: _render.fill_spec(kept[SPEC], definitions),
        MANIFEST: _json_text(_manifest.manifest(kept[MANIFEST], settings)),
        MANIFEST_WORDS: _json_text(_manifest.manifest_words(kept[MANIFEST_WORDS], settings)),
        "clients/vscode/src/protocol.gen.ts": _render.ts_module(definitions),
        "clients/vscode/test/protocol/protocol-examples.gen.ts": ts_examples(examples),
    }


def _json_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def load_kept(root: Path = ROOT) -> dict[str, str]:
    """The files of which only a part is generated, as they are now."""
    return {name: (root / name).read_text(encoding="utf-8") for name in (SPEC, MANIFEST, MANIFEST_WORDS)}


def load_examples(root: Path = ROOT) -> list[Example]:
    """All examples, by name."""
    paths = sorted((root / "protocol" / "examples").glob("*.json"))
    return [read_example(path.stem, path.read_text(encoding="utf-8")) for path in paths]


def stale_files(root: Path = ROOT) -> dict[Path, str]:
    """Files that are not what they should be, each with what it should be."""
    texts = outputs(load_kept(root), load_examples(root))
    wanted = {root / name: text for name, text in texts.items()}
    return {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_bytes() != text.encode("utf-8")
    }


def main(arguments: Sequence[str]) -> int:
    """Write or check; gives the exit code."""
    command = arguments[0] if len(arguments) == 1 else ""
    if command not in ("write", "check"):
        print("usage: python protocol/generate.py write|check")
        return 2
    stale = stale_files()
    for path, text in stale.items():
        print(f"{'wrote' if command == 'write' else 'stale'}: {path.relative_to(ROOT).as_posix()}")
        if command == "write":
            path.write_text(text, encoding="utf-8", newline="\n")
    if command == "check" and stale:
        print("Run `python protocol/generate.py write`.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
