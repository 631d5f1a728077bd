"""The only reader of configuration files and of the environment.

A file is opened without blocking and judged by its descriptor: a regular file of limited size; the
user's own file must belong to the user and be writable by nobody else; a workspace's file must lie
inside the workspace. No `.env` file is ever read, and `${VARIABLE}` is filled in once, after parsing,
in listed fields of the user's file only.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib import request as urllib_request

from ollm_daemon.config._yaml import YamlError, parse_yaml
from ollm_daemon.config.layers import MAX_PROBLEMS, Layer, line_of, make_layer, shown_key
from ollm_daemon.config.options import check_key
from ollm_daemon.config.settings import ConfigProblem
from ollm_daemon.urls import BaseUrl, parse_host_variable

MAX_USER_FILE = 1 << 20
MAX_WORKSPACE_FILE = 256 << 10
WORKSPACE_FILE = Path(".ollm") / "config.yaml"
_EXPANDED = frozenset(
    {"apiKey", "apiKeyFile", "baseUrl", "proxy", "caFile", "clientCert", "clientKey", "modelPath"}
)
_VARIABLE = re.compile(r"\$\$\{|\$\{([^${}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOSTS = {
    "OLLAMA_HOST": ("local", 11434),
    "VLLM_HOST": ("vllm", 8000),
    "OPENAI_COMPATIBLE_HOST": ("openai-compatible", 1234),
}
KEY_VARIABLES = {"VLLM_API_KEY": "vllm", "OPENAI_COMPATIBLE_API_KEY": "openai-compatible"}

Environment = Mapping[str, str]
FileStamp = tuple[int, int, int, int]


def read_environment() -> Environment:
    """A copy of the process's environment."""
    return dict(os.environ)


def home_folder(environment: Environment) -> Path | None:
    """The user's home, or `None` where there is none."""
    return _absolute(environment.get("HOME")) or _absolute(environment.get("USERPROFILE"))


def user_file_path(environment: Environment) -> Path | None:
    """`$OLLM_CONFIG`, else `~/.ollm/config.yaml`."""
    if environment.get("OLLM_CONFIG"):
        return Path(environment["OLLM_CONFIG"])
    home = home_folder(environment)
    return home / ".ollm" / "config.yaml" if home else None


def state_folder(environment: Environment) -> Path | None:
    """Where the daemon keeps what it must remember: `$XDG_STATE_HOME/ollm` or `~/.local/state/ollm`."""
    state = _absolute(environment.get("XDG_STATE_HOME"))
    if state:
        return state / "ollm"
    home = home_folder(environment)
    return home / ".local" / "state" / "ollm" if home else None


def run_folder(environment: Environment) -> Path | None:
    """Where a listening daemon leaves its token: `$XDG_RUNTIME_DIR/ollm/run`, else in the state folder."""
    runtime = _absolute(environment.get("XDG_RUNTIME_DIR"))
    folder = runtime / "ollm" if runtime else state_folder(environment)
    return folder / "run" if folder else None


def _absolute(text: str | None) -> Path | None:
    """A folder of the user's. A relative one would lie in whatever repository the daemon was started in."""
    path = Path(text or "")
    return path if path.is_absolute() else None


def load_user_file(environment: Environment) -> Layer:
    """The user's file; an absent one is an empty layer."""
    path = user_file_path(environment)
    if path is None:
        return Layer("user file")
    return _load_file("user file", path, MAX_USER_FILE, environment)


def workspace_file_path(folder: Path) -> Path:
    """A workspace's `.ollm/config.yaml`."""
    return folder / WORKSPACE_FILE


def load_workspace_file(folder: Path) -> Layer:
    """A workspace's file; an absent one is an empty layer."""
    path = workspace_file_path(folder)
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        return _broken("workspace file", path, "the file leads out of the workspace and is ignored.")
    return _load_file("workspace file", path, MAX_WORKSPACE_FILE, None)


def load_environment(environment: Environment) -> Layer:
    """What the environment says about providers."""
    providers: dict[str, dict[str, Any]] = {}
    problems = []
    for variable in (*_HOSTS, *KEY_VARIABLES):
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            if variable in _HOSTS:
                provider, port = _HOSTS[variable]
                field, value = "baseUrl", str(parse_host_variable(text, default_port=port))
            else:
                check_key(text)
                provider, field, value = KEY_VARIABLES[variable], "apiKey", text
        except ValueError as error:
            problems.append(
                ConfigProblem("error", f"{variable}: {error}.", f"Correct or unset {variable}.", variable)
            )
        else:
            providers.setdefault(provider, {})[field] = value
    layer = make_layer("environment", {"providers": providers})
    return replace(layer, problems=(*problems, *layer.problems))


def environment_proxy(url: BaseUrl, environment: Environment) -> str | None:
    """The proxy the environment names for `url`; loopback is always direct."""
    if url.is_loopback:
        return None
    # The standard library reads the same variables; it is asked so that NO_PROXY means the same.
    proxies = {
        name.lower().removesuffix("_proxy"): value
        for name, value in sorted(environment.items(), key=lambda item: item[0].islower())
        if name.lower().endswith("_proxy") and value
    }
    for host in (url.host, f"{url.host}:{url.port}"):
        if urllib_request.proxy_bypass_environment(  # type: ignore[attr-defined]
            host, {"no": proxies.get("no", "")}
        ):
            return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def read_secret_file(path: str) -> tuple[str | None, str]:
    """The one line of a key file and a warning about it, or `None` and what is wrong."""
    try:
        text, problem, status = _read_file(_key_file(path), 64 << 10)
        if text is None or status is None:
            return None, problem or "there is no such file."
        if refusal := _not_ours(status):
            return None, refusal
        key = text.strip()
        check_key(key)
    except (ValueError, RuntimeError) as error:  # no key; NUL in the path; `~` of nobody
        return None, f"{str(error).rstrip('.')}."
    if _readable_by_others(status):
        return key, "other users can read this file; run `chmod 600` on it."
    return key, ""


def stamp_key_file(path: str) -> FileStamp | None:
    """As `file_stamp`, for a path as it stands in a configuration."""
    try:
        return file_stamp(_key_file(path))
    except RuntimeError:
        return None


def _key_file(path: str) -> Path:
    return Path(path).expanduser()


def read_own_file(path: Path) -> str | None:
    """Text of a file that nobody but the user can have written; `None` when there is none."""
    text, _, status = _read_file(path, MAX_USER_FILE)
    return text if status and not _not_ours(status) else None


def file_stamp(path: Path) -> FileStamp | None:
    """Something that changes when a file does, its owner and mode too; `None` when it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to one place; false for a link that leads to itself."""
    try:
        return path.resolve() == other.resolve()
    except (OSError, RuntimeError, ValueError):
        return False


def _load_file(name: str, path: Path, limit: int, environment: Environment | None) -> Layer:
    """`environment` is given for the user's file only: it is the one that is trusted."""
    text, problem, status = _read_file(path, limit)
    if problem:
        return _broken(name, path, problem)
    if text is None or status is None:
        return Layer(name, str(path))
    if environment is not None and (refusal := _not_ours(status)):
        return _broken(name, path, refusal)
    try:
        document = parse_yaml(text)
    except YamlError as error:
        return _broken(name, path, f"{error}.", error.line)
    data, problems = _expand(document.data, environment, str(path), document.lines)
    if problems:
        return Layer(name, str(path), problems=tuple(problems))
    layer = make_layer(name, data, source=str(path), lines=document.lines)
    if environment is not None and _holds_literal_key(document.data) and _readable_by_others(status):
        warning = ConfigProblem(
            "warning",
            "the file holds a key and other users can read it.",
            f"Run `chmod 600 {path}`.",
            source=str(path),
        )
        return Layer(layer.name, layer.source, layer.values, layer.lines, (*layer.problems, warning))
    return layer


def _read_file(path: Path, limit: int) -> tuple[str | None, str, os.stat_result | None]:
    """Text of a file, or what is wrong with it; an absent file is no text and nothing wrong."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None, "this is not a regular file.", None
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None, "", None
    except OSError as error:
        return None, f"the file cannot be read: {(error.strerror or 'error').lower()}.", None
    if len(data) > limit:
        return None, f"the file is larger than {limit >> 10} KiB.", None
    try:
        return data.decode("utf-8-sig"), "", status
    except UnicodeDecodeError:
        return None, "the file is not UTF-8 text.", None


def _not_ours(status: os.stat_result) -> str:
    if not hasattr(os, "getuid"):
        return ""
    if status.st_uid not in (os.getuid(), 0):
        return "the file belongs to another user and is ignored."
    if status.st_mode & 0o022:
        return "other users can write this file, so it is ignored; run `chmod go-w` on it."
    return ""


def _readable_by_others(status: os.stat_result) -> bool:
    return hasattr(os, "getuid") and bool(status.st_mode & 0o044)


def _holds_literal_key(data: Any) -> bool:
    providers = data.get("providers") if isinstance(data, dict) else None
    entries = providers.values() if isinstance(providers, dict) else ()
    return any(
        isinstance(entry, dict) and isinstance(key := entry.get("apiKey"), str) and "${" not in key
        for entry in entries
    )


def _broken(name: str, path: Path, message: str, line: int | None = None) -> Layer:
    return Layer(name, str(path), problems=(ConfigProblem("error", message, source=str(path), line=line),))


def _expand(
    data: Any, environment: Environment | None, source: str, lines: Mapping[str, int]
) -> tuple[Any, list[ConfigProblem]]:
    """Fill in `${VARIABLE}` in the listed fields of each provider; anywhere in an untrusted file it
    is an error.
    """
    problems: list[ConfigProblem] = []

    def problem(path: str, message: str) -> None:
        if len(problems) < MAX_PROBLEMS:
            line = line_of(lines, path)
            problems.append(ConfigProblem("error", message, key=shown_key(path), source=source, line=line))

    def walk(value: Any, path: str, expandable: bool) -> Any:
        if isinstance(value, dict):
            return {
                key: walk(
                    item,
                    f"{path}.{key}" if path else key,
                    path.startswith("providers.") and (key in _EXPANDED or path.endswith(".headers")),
                )
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [walk(item, f"{path}.{index}", False) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        if environment is None:
            problem(path, f"`{shown_key(path)}`: a workspace cannot use ${{…}}; only your own file can.")
            return value
        return _fill_in(value, environment, path, problem) if expandable else value

    return walk(data, "", False), problems


def _fill_in(text: str, environment: Environment, path: str, problem: Any) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1] or ""
        if not _NAME.fullmatch(name):
            problem(path, f"`{path}`: `${{…}}` takes the name of an environment variable, and nothing else.")
        elif name not in environment:
            problem(path, f"`{path}`: the environment variable {name} is not set.")
        else:
            return environment[name]
        return ""

    return _VARIABLE.sub(replace, text)
