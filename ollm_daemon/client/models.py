"""`ollm models`: look at the models of a server and change them, with progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ollm_daemon.client._client import Daemon
from ollm_daemon.client.render import Screen, size_text, table
from ollm_daemon.protocol import state

CHANGES: Mapping[str, str] = {"pull": "pull", "rm": "delete", "load": "load", "unload": "unload"}
"""Words of the command → methods under `ollm/models/`."""
LOOKS = ("list", "ps", "show")
_DONE = {"pull": "is here", "rm": "is deleted", "load": "is loaded", "unload": "is unloaded"}
PROGRESS = "models"


async def run_models(daemon: Daemon, screen: Screen, words: Sequence[str]) -> None:
    """Do what `words` say: nothing, `ps`, `show MODEL`, or a change and the model's name."""
    action, *names = words or ("list",)
    if action in ("list", "ps"):
        await _list(daemon, screen, loaded_only=action == "ps")
    elif action == "show":
        await _show(daemon, screen, names[0])
    else:
        await _change(daemon, screen, action, names[0])


async def _list(daemon: Daemon, screen: Screen, *, loaded_only: bool) -> None:
    result = await daemon.request("ollm/models/list", state.ModelsListParams(), state.ModelsListResult)
    if loaded_only:
        models = [model for model in result.models if model.loaded or model.loaded is None]
        result = result.model_copy(update={"models": models})
    if screen.as_json:
        screen.write_json(result)
    elif not result.models:
        screen.note(f"{result.provider} has no models{' in memory' if loaded_only else ''}.")
    else:
        head = ["MODEL", "SIZE", "PARAMETERS", "QUANTIZATION", "WINDOW", "CAN", ""]
        screen.write(table(head, [_row(model) for model in result.models]))


def _row(model: state.ModelInfo) -> list[str]:
    window = model.context_length or model.max_context_length
    return [
        model.id,
        size_text(model.size_bytes),
        model.parameter_size or "",
        model.quantization or "",
        f"{window} tokens" if window else "",
        " ".join(name for name in model.capabilities or () if name != "completion"),
        "loaded" if model.loaded else "",
    ]


async def _show(daemon: Daemon, screen: Screen, name: str) -> None:
    params = state.ModelsShowParams(model=name)
    result = await daemon.request("ollm/models/show", params, state.ModelsShowResult)
    if screen.as_json:
        screen.write_json(result)
        return
    model = result.model
    rows = [
        ("model", model.id),
        ("provider", result.provider),
        ("size", size_text(model.size_bytes)),
        ("parameters", model.parameter_size),
        ("quantization", model.quantization),
        ("window", f"{model.context_length} tokens" if model.context_length else None),
        ("trained for", f"{model.max_context_length} tokens" if model.max_context_length else None),
        ("can", " ".join(model.capabilities) if model.capabilities else None),
        ("loaded", None if model.loaded is None else "yes" if model.loaded else "no"),
    ]
    screen.write(table(["", ""], [[label, value] for label, value in rows if value]))


async def _change(daemon: Daemon, screen: Screen, action: str, name: str) -> None:
    params = state.ModelsChangeParams(model=name, work_done_token=PROGRESS)
    with screen.progress():
        result = await daemon.request(f"ollm/models/{CHANGES[action]}", params, state.ModelsChangeResult)
    if screen.as_json:
        screen.write_json(result)
    else:
        screen.note(f"{result.model} {_DONE[action]} on {result.provider}.")
