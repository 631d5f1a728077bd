"""Whether an answer keeps to the constraint it was asked under.

Servers drop constraints in silence: a version that does not know an option, a schema that cannot be
converted, an answer that was cut. So JSON and choices are always looked at, and schemas and patterns
wherever the server is known not to keep to them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import anyio

from ollm_daemon.domain import FinishReason, ResponseFormat

CHECK_SECONDS = 5.0
"""A pattern can take for ever; the check runs in a process of its own and is given up after this."""


async def find_violation(
    text: str, wanted: ResponseFormat, reason: FinishReason, *, thorough: bool
) -> str | None:
    """The sentence for the user when `text` is not what was wanted.

    Args:
        thorough: Hold it against its schema or pattern too.
    """
    if wanted.type in ("text", "grammar"):
        return None
    problem = _first_look(text, wanted)
    if problem is None and thorough and wanted.type in ("jsonSchema", "regex"):
        problem = await _look_from_outside(text, wanted)
    if problem is None:
        return None
    if reason == "length":
        return f"The answer was cut at the token limit and {problem}."
    return f"The server did not keep to the constraint: the answer {problem}."


def _first_look(text: str, wanted: ResponseFormat) -> str | None:
    if wanted.type in ("json", "jsonSchema"):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return "is not valid JSON"
    if wanted.type == "choice" and text.strip() not in wanted.value:
        return "is none of the choices"
    return None


async def _look_from_outside(text: str, wanted: ResponseFormat) -> str | None:
    """`second_look` in a process that can be given up; `-P` keeps the current folder off its import path."""
    command = (sys.executable, "-P", "-m", "ollm_daemon.constraints")
    order = json.dumps([text, wanted.type, wanted.value]).encode()
    with anyio.move_on_after(CHECK_SECONDS):
        done = await anyio.run_process(command, input=order, stderr=subprocess.DEVNULL, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None
    return None


def second_look(text: str, type: str, value: Any) -> str | None:
    """What is wrong with an answer by its schema or pattern; nothing, when those make no sense."""
    if type == "regex":
        try:
            return None if re.fullmatch(value, text) else "does not match the pattern"
        except re.error:
            return None
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        validator = validator_for(value)(value, registry=Registry())  # nothing a schema names is fetched
        error = best_match(validator.iter_errors(json.loads(text)))
    except (SchemaError, Unresolvable, ValueError, TypeError, re.error):
        return None
    if error is None:
        return None
    place = f" at {error.json_path}" if error.json_path != "$" else ""
    return f"breaks its schema{place} ({error.validator})"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(second_look(*json.load(sys.stdin))))
