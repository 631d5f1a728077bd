"""METHODS: every message of the contract, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ollm_daemon.protocol import METHOD_NAMES, chat, completion, state
from ollm_daemon.protocol.base import WireModel


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        sender: Who sends it.
        result: What answers a request; `None` for a notification.
        since: Protocol version that introduced it.
    """

    name: str
    sender: Literal["client", "daemon"]
    params: type[WireModel]
    result: type[WireModel] | None
    summary: str
    since: str = "1.0"


def _table(*methods: Method) -> Mapping[str, Method]:
    table = {method.name: method for method in methods}
    if tuple(sorted(table)) != METHOD_NAMES:
        raise ImportError("METHODS and METHOD_NAMES differ")
    return table


METHODS = _table(
    Method(
        "ollm/chat",
        "client",
        chat.ChatParams,
        chat.ChatResult,
        "Answer a conversation. The request stays open while it streams; its response is the end of the "
        "stream and carries the whole answer. `$/cancelRequest` stops it.",
    ),
    Method(
        "ollm/completion/delta",
        "daemon",
        chat.CompletionDeltaParams,
        None,
        "One step of a stream that the client asked for with a `streamToken`.",
    ),
    Method(
        "ollm/infill",
        "client",
        completion.InfillParams,
        completion.InfillResult,
        "Write what stands between a prefix and a suffix. Streams and is cancelled as `ollm/chat`.",
    ),
    Method(
        "ollm/completion/didChange",
        "daemon",
        completion.CompletionDidChangeParams,
        None,
        "Text can be offered at the cursor again, or can no longer be.",
    ),
    Method(
        "ollm/completion/feedback",
        "client",
        completion.CompletionFeedbackParams,
        None,
        "What became of an offer of `textDocument/inlineCompletion`.",
    ),
    Method(
        "ollm/models/list",
        "client",
        state.ModelsListParams,
        state.ModelsListResult,
        "The models a provider offers now.",
    ),
    Method(
        "ollm/models/show",
        "client",
        state.ModelsShowParams,
        state.ModelsShowResult,
        "What is known of one model.",
    ),
    Method(
        "ollm/models/pull",
        "client",
        state.ModelsChangeParams,
        state.ModelsChangeResult,
        "Get a model onto the server. Tells work-done progress; cancelling stops it, doing it again goes on.",
    ),
    Method(
        "ollm/models/delete",
        "client",
        state.ModelsChangeParams,
        state.ModelsChangeResult,
        "Delete a model from the server. The client asks its user first.",
    ),
    Method(
        "ollm/models/load",
        "client",
        state.ModelsLoadParams,
        state.ModelsChangeResult,
        "Load a model into the server's memory. Tells work-done progress.",
    ),
    Method(
        "ollm/models/unload",
        "client",
        state.ModelsChangeParams,
        state.ModelsChangeResult,
        "Free the memory of a model.",
    ),
    Method(
        "ollm/models/didChange",
        "daemon",
        state.ModelsDidChangeParams,
        None,
        "A model was pulled, deleted, loaded or unloaded through this daemon.",
    ),
    Method(
        "ollm/providers/detect",
        "client",
        state.NoParams,
        state.ProvidersDetectResult,
        "Look for servers at the known addresses of this machine. Takes under two seconds and sends no key.",
    ),
    Method(
        "ollm/providers/check",
        "client",
        state.ProvidersCheckParams,
        state.ProvidersCheckResult,
        "Try a provider out: who answers, whether the key is accepted, which models it has, how fast it is.",
    ),
    Method(
        "ollm/tokens/count",
        "client",
        state.TokensCountParams,
        state.TokensCountResult,
        "Count the tokens of a conversation.",
    ),
    Method(
        "ollm/privacy/check",
        "client",
        completion.PrivacyCheckParams,
        completion.PrivacyCheckResult,
        "Which files the user keeps to themselves; ask before sending one that the user did not hand over.",
    ),
    Method(
        "ollm/providers/list",
        "client",
        state.NoParams,
        state.ProvidersListResult,
        "The providers and aliases of this connection.",
    ),
    Method(
        "ollm/config/get",
        "client",
        state.NoParams,
        state.ConfigGetResult,
        "The effective settings, each with its origin, and what is wrong with the configuration.",
    ),
    Method(
        "ollm/config/set",
        "client",
        state.ConfigSetParams,
        state.ConfigSetResult,
        "Tell settings apart by who wrote them: the user, the workspace, or this run alone.",
    ),
    Method(
        "ollm/config/didChange",
        "daemon",
        state.ConfigDidChangeParams,
        None,
        "A configuration file or an editor setting changed and the settings were resolved anew.",
    ),
    Method(
        "ollm/trust/get",
        "client",
        state.NoParams,
        state.TrustGetResult,
        "What this workspace wants to send where and the user has not approved.",
    ),
    Method(
        "ollm/trust/approve",
        "client",
        state.TrustApproveParams,
        state.TrustApproveResult,
        "Approve one such request, in the name of the user.",
    ),
    Method(
        "ollm/status",
        "client",
        state.NoParams,
        state.StatusResult,
        "The daemon's version, load and memory.",
    ),
)

ERROR_CODES: Mapping[int, str] = {
    -32700: "Parse error: the body is not JSON, or the header is not of this protocol.",
    -32600: "Invalid request: not a JSON-RPC 2.0 message, or not allowed at this point.",
    -32601: "Method not found.",
    -32602: "Invalid params; `data` lists what is wrong.",
    -32603: "Internal error: a fault of the daemon; its log has the rest.",
    -32002: "Server not initialized.",
    -32800: "Request cancelled.",
    -32803: "Request failed: `data.kind` says how, `data.hint` what to do.",
}

ERROR_KINDS: Mapping[str, str] = {
    "config": "A setting, an alias or the name of a provider is wrong; the user can mend it.",
    "unsupported": "The server or the model cannot do what the request asks.",
    "unreachable": "No connection to the server, or it closed before it answered.",
    "dns": "The host name of the server cannot be found.",
    "tls": "The certificate is not accepted, or TLS failed.",
    "proxy": "The proxy in front of the server failed.",
    "redirect": "The server redirects; redirects are not followed.",
    "timeout_connect": "No connection within `timeouts.connect`.",
    "timeout_first_token": "No text within `timeouts.firstToken`.",
    "timeout_idle": "Silence in mid-answer for `timeouts.idle`, or no text for `timeouts.stall`.",
    "timeout_total": "The answer was not complete within `timeouts.total`.",
    "auth": "The server wants a key, or refuses the one it was given.",
    "forbidden": "The server knows who asks and does not allow it.",
    "not_found": "The server does not have the model.",
    "too_large": "The request is larger than the server accepts.",
    "invalid": "The request makes no sense, to the daemon or to the server.",
    "rate_limited": "Too many requests; see `retryAfter`.",
    "overloaded": "The server is busy, or still loading the model.",
    "context_length": "The conversation does not fit the model's context window.",
    "backend": "The server failed, before its answer or in the middle of it.",
    "protocol": "What arrived is not what such a server sends; another program may listen there.",
    "bad_content_type": "The answer has a content type that the daemon cannot read.",
    "stream_truncated": "The answer ended without its end mark.",
    "limit": "A limit of the daemon was passed: size of an answer, number of waiting requests.",
    "internal": "A fault of the daemon; comes with code -32603.",
}
"""Every value of `ErrorData.kind`. `internal` is no failure that the daemon knows by name."""
