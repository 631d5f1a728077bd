"""`ollm doctor`: every server that is configured or found, tried out, with one fix for each problem."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePath

from ollm_daemon.client._client import Daemon
from ollm_daemon.client.render import Screen, size_text
from ollm_daemon.protocol import state

MARKS = {
    "ready": ("green", "●", "ready"),
    "loading": ("yellow", "◐", "loading its model"),
    "locked": ("yellow", "◌", "needs a key"),
    "unreachable": ("red", "○", "does not answer"),
    "broken": ("red", "✗", "does not work"),
}
"""State → colour, sign and words."""
_KEYS = {
    "none": "no key is sent",
    "accepted": "the key is accepted",
    "missing": "the server wants a key, and none is configured for this address",
    "refused": "the server refuses the key",
}
SHOWN_MODELS = 8
NOTHING = "No model server runs at a known address of this machine."
START_ONE = (
    "Start one (`ollama serve`, `llama-server -m FILE.gguf`, LM Studio …), or name its address in "
    "`providers` of ~/.ollm/config.yaml."
)


async def run_doctor(daemon: Daemon, screen: Screen, *, generate: bool) -> bool:
    """Look at all servers and tell; gives whether the one in use works."""
    config = await daemon.request("ollm/config/get", None, state.ConfigGetResult)
    detected = (await daemon.request("ollm/providers/detect", None, state.ProvidersDetectResult)).servers
    listed = (await daemon.request("ollm/providers/list", None, state.ProvidersListResult)).providers
    default = next((provider.name for provider in listed if provider.is_default), "")
    chosen = _choose(config, listed, detected)
    if screen.as_json:
        checks = [check async for check in _check_all(daemon, chosen, generate)]
        _write_json(screen, config, detected, checks)
        return _is_well(checks, default)
    page = _Page(screen)
    page.problems(config.problems)
    if not detected and not any(name != default for name in chosen):
        page.say("yellow", "!", NOTHING, START_ONE)
    checks = []
    async for check in _check_all(daemon, chosen, generate):
        checks.append(check)
        page.server(check, is_default=check.provider == default)
    for server in detected:
        if server.provider is None:
            page.stranger(server)
    page.summary(checks)
    return _is_well(checks, default)


def _choose(
    config: state.ConfigGetResult,
    listed: Sequence[state.ProviderInfo],
    detected: Sequence[state.DetectedServer],
) -> list[str]:
    """Names of the providers worth a look: the one in use, those somebody configured, those that are up."""
    configured = {
        setting.key.split(".")[1]
        for setting in config.settings
        if setting.key.startswith("providers.") and setting.origin.layer != "default"
    }
    found = {server.provider for server in detected}
    wanted = [
        provider
        for provider in sorted(listed, key=lambda one: (not one.is_default, one.name))
        if provider.is_default or provider.name in configured or provider.name in found
    ]
    names: dict[str | None, str] = {}
    for provider in wanted:
        names.setdefault(provider.base_url or provider.name, provider.name)
    return list(names.values())


async def _check_all(
    daemon: Daemon, names: Sequence[str], generate: bool
) -> AsyncIterator[state.ProvidersCheckResult]:
    """One after another, so that no model is timed while another one writes."""
    for name in names:
        params = state.ProvidersCheckParams(provider=name, generate=generate)
        yield await daemon.request("ollm/providers/check", params, state.ProvidersCheckResult)


def _is_well(checks: Sequence[state.ProvidersCheckResult], default: str) -> bool:
    return any(check.provider == default and check.state == "ready" for check in checks)


def _write_json(
    screen: Screen,
    config: state.ConfigGetResult,
    detected: Sequence[state.DetectedServer],
    checks: Sequence[state.ProvidersCheckResult],
) -> None:
    parts = {"problems": config.problems, "detected": detected, "providers": checks}
    document = {
        name: [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in items]
        for name, items in parts.items()
    }
    screen.write(json.dumps(document, ensure_ascii=False, indent=2))


class _Page:
    """The report, in colours where there is a terminal."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def say(self, colour: str, sign: str, message: str, hint: str | None, indent: str = "") -> None:
        """A sentence and, under it, what to do."""
        self._screen.write_styled((f"{indent}{sign} ", colour), (message, ""))
        if hint:
            self._screen.write_styled((f"{indent}  → ", "cyan"), (hint, "cyan"))

    def problems(self, problems: Sequence[state.ConfigProblem]) -> None:
        """What is wrong with the configuration."""
        for problem in problems:
            place = f"{problem.source}:{problem.line}: " if problem.line else ""
            colour, sign = ("red", "✗") if problem.severity == "error" else ("yellow", "!")
            self.say(colour, sign, f"{place}{problem.message}", problem.hint)
        if problems:
            self._screen.write("")

    def server(self, check: state.ProvidersCheckResult, *, is_default: bool) -> None:
        """One server."""
        colour, sign, words = MARKS[check.state]
        version = f" {check.version}" if check.version else ""
        where = f" at {check.base_url}" if check.base_url else ""
        names = f"  ({check.provider}{', in use' if is_default else ''})"
        self._screen.write_styled(
            (f"{sign} ", colour),
            (f"{check.backend}{version}", "bold"),
            (where, ""),
            (names, "dim"),
            (f"  {words}", colour),
        )
        if check.state not in ("unreachable", "loading"):
            self._row("key", _KEYS[check.key])
        for position, model in enumerate(check.models[:SHOWN_MODELS]):
            self._row("models" if position == 0 else "", model_text(model))
        if len(check.models) > SHOWN_MODELS:
            self._row("", f"and {len(check.models) - SHOWN_MODELS} more; see `ollm models`")
        if check.trial:
            self._trial(check.trial)
        for problem in check.problems:
            self.say(
                "red" if problem.kind and check.state != "loading" else "yellow",
                "✗" if problem.kind else "!",
                problem.message,
                problem.hint,
                "  ",
            )
        self._screen.write("")

    def _trial(self, trial: state.Trial) -> None:
        speed = f", {trial.tokens_per_second:.0f} tokens/s" if trial.tokens_per_second else ""
        self._row(
            "answer", f"{short_name(trial.model)}: first word after {trial.first_token_ms / 1e3:.2f} s{speed}"
        )
        if trial.cancelled_ms is not None:
            self._row("cancel", f"stopped; the next answer began after {trial.cancelled_ms / 1e3:.2f} s")

    def stranger(self, server: state.DetectedServer) -> None:
        """A server that no provider leads to."""
        version = f" {server.version}" if server.version else ""
        self.say(
            "cyan",
            "+",
            f"{server.title}{version} at {server.base_url} is up and not configured.",
            f"Use it with `--provider openai-compatible --host {server.base_url}`.",
        )
        self._screen.write("")

    def summary(self, checks: Sequence[state.ProvidersCheckResult]) -> None:
        """How many are in which state."""
        counts = [
            f"{count} {words}"
            for name, (_, _, words) in MARKS.items()
            if (count := sum(check.state == name for check in checks))
        ]
        self._screen.write(f"{', '.join(counts)}.")

    def _row(self, label: str, text: str) -> None:
        self._screen.write_styled((f"  {label:<8}", "dim"), (text, ""))


def short_name(model: str) -> str:
    """A model's name; of a file (llama.cpp without an alias) the last part of its path."""
    return PurePath(model).name if PurePath(model).is_absolute() else model


def model_text(model: state.ModelInfo) -> str:
    """One model in one line."""
    window = f"window {model.context_length}" if model.context_length else ""
    if model.max_context_length and model.max_context_length != model.context_length:
        window = f"{window} of {model.max_context_length}" if window else f"up to {model.max_context_length}"
    parts = [
        short_name(model.id),
        size_text(model.size_bytes),
        model.parameter_size,
        model.quantization,
        window,
        " ".join(name for name in model.capabilities or () if name != "completion"),
        "loaded" if model.loaded else "",
    ]
    return " · ".join(part for part in parts if part)
