"""Where a client says its workspace is. Pure, but for a look at the links on the way there."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ollm_daemon.server.greeting import look_up


def workspace_folder(params: dict[str, Any]) -> Path | None:
    """The first workspace folder of `initialize`, else its root; `None` where that is no folder here.

    Other schemes than `file` have no folder that could be read, and some URIs are none at all.
    """
    try:
        uri = _root_uri(params)
        parts = urlsplit(uri or "")
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            return None
        folder = Path(url2pathname(parts.path))
        folder.resolve()
    except (ValueError, OSError, RuntimeError):
        return None
    return folder


def _root_uri(params: dict[str, Any]) -> str | None:
    folders = params.get("workspaceFolders")
    first = look_up(folders[0], "uri") if isinstance(folders, list) and folders else None
    found = first or params.get("rootUri")
    if found is None and isinstance(params.get("rootPath"), str):
        found = Path(params["rootPath"]).absolute().as_uri()
    return found if isinstance(found, str) else None
