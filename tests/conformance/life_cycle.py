"""Actions on models: what a server answers, what it is sent, and what the user sees. Pulls and deletes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ollm_daemon.domain import ModelProgress
from ollm_daemon.errors import ErrorKind
from ollm_daemon.providers.facts import ModelAction
from tests.conformance.captured import OLLAMA_WIRE
from tests.conformance.documented import lmstudio, localai, tabbyapi
from tests.conformance.documented._shapes import fastapi
from tests.conformance.evidence import Case, Evidence, case
from tests.conformance.wire import Wire
from tests.fakes.captures import OLLAMA
from tests.fakes.upstream import Reply, body_reply, capture_reply, ndjson_reply

Sent = tuple[str, str, Any]
"""Method, path and body of a request; a GET has none."""


@dataclass(frozen=True)
class Change:
    """One action on a model: the server's answers in turn, what it is sent, and what the user sees."""

    wire: Wire
    action: ModelAction
    answers: Mapping[str, tuple[Reply, ...]]
    sent: tuple[Sent, ...]
    progress: tuple[ModelProgress, ...] = ()
    error: ErrorKind | None = None
    words: str = ""
    model: str = "m"
    evidence: Evidence = field(default=Evidence.DOCUMENTED)


def lines(*records: object) -> tuple[Reply, ...]:
    return (ndjson_reply(records),)


_PULL = ("POST", "/api/pull", {"model": "m"})
_ONE, _TWO = "sha256:1111", "sha256:2222"
PULLED = lines(  # server/images.go, v0.33: `completed` absent while it is zero, digests in any order
    {"status": "pulling manifest"},
    {"status": "pulling 1111", "digest": _ONE, "total": 100},
    {"status": "pulling 2222", "digest": _TWO, "total": 50},
    {"status": "pulling 1111", "digest": _ONE, "total": 100, "completed": 60},
    {"status": "pulling 2222", "digest": _TWO, "total": 50, "completed": 50},
    {"status": "pulling 1111", "digest": _ONE, "total": 100, "completed": 100},
    {"status": "verifying sha256 digest"},
    {"status": "success"},
)
_DOWNLOAD = ("POST", "/api/v1/models/download", {"model": "m"})
_STATUS = "/api/v1/models/download/status/j-1"
_BEGUN = lmstudio.document(
    {"job_id": "j-1", "status": "downloading", "total_size_bytes": 100, "started_at": "x"}
)
_APPLY = ("POST", "/models/apply", {"id": "m"})
_JOB = "/models/jobs/u-1"
# The address in it is the server's own idea of its host, and is not followed (routes/localai.go:59-65).
_APPLIED = localai.document({"uuid": "u-1", "status": "http://elsewhere.invalid/models/jobs/u-1"})


def _job(**fields: Any) -> Reply:
    return localai.document({"processed": False, "message": "processing", "progress": 0, **fields})


def _download(**fields: Any) -> Reply:
    return lmstudio.document({"job_id": "j-1", **fields})


def rows(*changes: tuple[str, Change]) -> list[Case]:
    return [case(change.wire.backend, change.evidence, change, note) for note, change in changes]


PULLS = rows(
    (
        "two files",
        Change(
            OLLAMA_WIRE,
            "pull",
            {"/api/pull": PULLED},
            (_PULL,),
            (
                ModelProgress("pulling manifest"),
                ModelProgress("pulling 1111", 0, 100),
                ModelProgress("pulling 2222", 0, 150),
                ModelProgress("pulling 1111", 60, 150),
                ModelProgress("pulling 2222", 110, 150),
                ModelProgress("pulling 1111", 150, 150),
                ModelProgress("verifying sha256 digest"),
                ModelProgress("success"),
            ),
        ),
    ),
    (
        "error under 200",
        Change(
            OLLAMA_WIRE,
            "pull",
            {"/api/pull": (capture_reply(OLLAMA, "pull-offline-stream"),)},
            (_PULL,),
            error=ErrorKind.BACKEND,
            words="no such host",
            evidence=Evidence.CAPTURE,
        ),
    ),
    (
        "unknown name",
        Change(
            OLLAMA_WIRE,
            "pull",
            {
                "/api/pull": lines(
                    {"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}
                )
            },
            (_PULL,),
            error=ErrorKind.NOT_FOUND,
            words="file does not exist",
        ),
    ),
    (
        "cut",
        Change(
            OLLAMA_WIRE,
            "pull",
            {"/api/pull": lines({"status": "pulling manifest"})},
            (_PULL,),
            error=ErrorKind.STREAM_TRUNCATED,
            words="before it was done",
        ),
    ),
    (
        "job",
        Change(
            lmstudio.WIRE,
            "pull",
            {
                "/api/v1/models/download": (_BEGUN,),
                _STATUS: (
                    _download(status="downloading", downloaded_bytes=40, total_size_bytes=100),
                    _download(status="completed"),
                ),
            },
            (_DOWNLOAD, ("GET", _STATUS, None), ("GET", _STATUS, None)),
            (ModelProgress("downloading", 40, 100),),
        ),
    ),
    (
        "there already",
        Change(
            lmstudio.WIRE,
            "pull",
            {"/api/v1/models/download": (lmstudio.document({"status": "already_downloaded"}),)},
            (_DOWNLOAD,),
        ),
    ),
    (
        "failed",
        Change(
            lmstudio.WIRE,
            "pull",
            {"/api/v1/models/download": (_BEGUN,), _STATUS: (_download(status="failed"),)},
            (_DOWNLOAD, ("GET", _STATUS, None)),
            error=ErrorKind.BACKEND,
            words="failed",
        ),
    ),
    (
        "before 0.4",
        Change(
            lmstudio.WIRE,
            "pull",
            {},
            (_DOWNLOAD,),
            error=ErrorKind.UNSUPPORTED,
            words="This LM Studio cannot",
        ),
    ),
    (
        "job",
        Change(
            localai.WIRE,
            "pull",
            {
                "/models/apply": (_APPLIED,),
                _JOB: (_job(progress=42.5), _job(processed=True, message="completed", progress=100)),
            },
            (_APPLY, ("GET", _JOB, None), ("GET", _JOB, None)),
            (ModelProgress("processing (42 %)"),),
        ),
    ),
    (
        "failed",
        Change(
            localai.WIRE,
            "pull",
            {
                "/models/apply": (_APPLIED,),
                _JOB: (_job(processed=True, error="no model m in the galleries"),),
            },
            (_APPLY, ("GET", _JOB, None)),
            error=ErrorKind.BACKEND,
            words="no model m in the galleries",
        ),
    ),
    (
        "blocks",
        Change(
            tabbyapi.WIRE,
            "pull",
            {"/v1/download": (fastapi({"download_path": "models/m"}),)},
            (("POST", "/v1/download", {"repo_id": "m"}),),
        ),
    ),
)


DELETES = rows(
    (
        "empty answer",
        Change(
            OLLAMA_WIRE,
            "delete",
            {"/api/delete": (body_reply(200, b""),)},
            (("DELETE", "/api/delete", {"model": "m"}),),
        ),
    ),
    (
        "unknown",
        Change(
            OLLAMA_WIRE,
            "delete",
            {"/api/delete": (capture_reply(OLLAMA, "err-unknown-model"),)},
            (("DELETE", "/api/delete", {"model": "m"}),),
            error=ErrorKind.NOT_FOUND,
            evidence=Evidence.CAPTURE,
        ),
    ),
    (
        "a name in the path",
        Change(
            localai.WIRE,
            "delete",
            {"/models/delete/org%2Fm%20x": (localai.document({"uuid": "u-1", "status": "x"}),)},
            (("POST", "/models/delete/org%2Fm%20x", {}),),
            model="org/m x",
        ),
    ),
)
