"""The vocabulary in which servers are described: what a record in `backends` is made of.

Types only, no server. A fact is a value that a dialect reads; whatever needs a branch is named by a
word here and done by the one module that the word belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ModelAction = Literal["pull", "delete", "load", "unload"]
"""What can be done to a model on a server."""

ANYWHERE = "*"
"""A sign that may show in the answer to any request."""


@dataclass(frozen=True, slots=True)
class Where:
    """A value in a JSON document: the path to GET, and the keys and positions that lead to the value."""

    path: str
    keys: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Sign:
    """What gives a server away without a key: all that is named must hold for the answer to one GET.

    Attributes:
        step: Signs of a lower step are looked at first, because later ones are imitated by other servers.
        path: What to ask for, or `ANYWHERE`.
        status: The status the answer has.
        header: Name of a header and how its value begins.
        text: The whole body, without white space around it.
        keys: Where in the JSON body to look; empty for the body itself.
        equals: The value found there.
        begins: How the text found there begins.
        holds: A key that the object found there has.
        lacks: A key that it has not.
        is_object: Something is found there, and it is an object.
    """

    step: int
    path: str
    status: int | None = None
    header: tuple[str, str] | None = None
    text: str | None = None
    keys: tuple[str | int, ...] = ()
    equals: Any = None
    begins: str | None = None
    holds: str | None = None
    lacks: str | None = None
    is_object: bool = False


FormatEncoding = Literal[
    "json_object",
    "json",
    "json_schema",
    "object_schema",
    "structured",
    "verbatim",
    "choice_gbnf",
    "choice_regex",
    "json_gbnf",
]
"""How a constraint is written: OpenAI's two types; `json` where any JSON is called so; a schema of any object
where only schemas exist; vLLM's `structured_outputs`; as it is; or translated into a grammar or a pattern."""


@dataclass(frozen=True, slots=True)
class FormatRoute:
    """The key of the request body that takes a constraint, and how the constraint is written there."""

    key: str
    encoding: FormatEncoding


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A route that counts tokens with the server's own tokeniser.

    Attributes:
        path: What to POST to.
        key: Body key that takes what is counted.
        takes: Whole messages, or one text.
        answer: Where the number, or the list of tokens, stands in the answer.
        names_model: Whether the body names the model.
    """

    path: str
    key: str
    takes: Literal["messages", "text"]
    answer: tuple[str, ...]
    names_model: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Work that a server does in the background, looked at until it is over.

    Attributes:
        name: Key of the first answer that names the job; without it the work is already done.
        path: Where to look; `{job}` is filled in.
        done: Key and values that say that it is over.
        failed: Key that holds something when it went wrong, or whose value is in `failures`.
        failures: Values of `failed` that mean failure; empty when anything does.
        completed: Key of the bytes that are there.
        total: Key of all bytes.
        percent: Key of the progress in percent.
    """

    name: str
    path: str
    done: tuple[str, tuple[Any, ...]]
    failed: str
    failures: tuple[str, ...] = ()
    completed: str | None = None
    total: str | None = None
    percent: str | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A value beside a model's name in a list.

    Attributes:
        path: What to GET.
        entries: Where the list stands in the answer.
        name: Key that names the model in an entry.
        value: Where the value stands in that entry.
    """

    path: str
    entries: tuple[str | int, ...]
    name: str
    value: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """How one action on a model is asked for.

    Attributes:
        method: HTTP method.
        path: Where; `{model}` is filled in.
        key: Body key that takes the model's name; `None` where the path has it or none is needed.
        answer: `once`: done when answered; `lines`: records of progress, one JSON object a line;
            `events`: the same as server-sent events; `job`: the answer names a job.
        body: What else the body holds.
        job: The job, for `job`.
        instance: Where the name to send is found, when it is not the model's.
        until: Where the model's state is found, and the states in which the action is over, for a server
            that answers before it is.
        proof: A request that must succeed for the action to have, on a server that says so in any case.
        absent: What to do on a version or in a mode that has no such route.
        needs_admin: The server wants its administrator's key.
    """

    method: Literal["POST", "DELETE"]
    path: str
    key: str | None = None
    answer: Literal["once", "lines", "events", "job"] = "once"
    body: Mapping[str, Any] = field(default_factory=dict)
    job: Job | None = None
    instance: Lookup | None = None
    until: tuple[Lookup, frozenset[str]] | None = None
    proof: tuple[str, Mapping[str, Any]] | None = None
    absent: str = ""
    needs_admin: bool = False


ModelListShape = Literal["openai", "lmstudio-v1", "lmstudio-v0"]
"""Shapes of a model list that `_model_lists` reads."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Facts about one kind of server.

    Attributes:
        title: The name its users know.
        default_url: Where it listens unless told otherwise; ports collide, so this proves nothing.
        start: The sentence that says how to start it.
        signs: How it is recognised.
        version: Where it tells its version, without a key.
        get_model: The sentence that says how to get a model; `{model}` is filled in.
        widen: The sentence that says how to get a larger context window; `{provider}` is filled in.
        actions: What can be done to its models, and how.
        instead: For an action it has not: what to do instead; `{model}` is filled in.
        models: Routes of its model list, the most telling first.
        loaded: Where it tells which model it has loaded, when its list holds others.
        window: Where it tells the context window of the one model it has loaded.
        lists_windows: Its list of models tells the window that each has been given.
        vision: Where it tells whether that model sees images.
        count: How it counts tokens.
        cuts_silently: A prompt over the window is shortened without a word.
        ignores_model: An unknown model name is answered by whatever is loaded.
        requires_max_tokens: The server fails, or stops after 16 tokens, without a limit.
        sends_usage: The server understands `stream_options.include_usage`.
        max_stop: Most stop strings it accepts; the others are watched for here. `None` is no limit.
        unsupported: Our option names it refuses or ignores; they are left out.
        renamed: Our option names under its own spelling.
        formats: Constraint types it can apply, and by which route.
        checked: Constraint types it is known to ignore at times; such answers are checked here.
        tools: Whether it has tool calling at all.
        names_tools: Whether it can be told to call one tool by name.
        images: Whether it takes images at all.
        logprobs: Whether its chat tells probabilities.
        length_means_stop: `finish_reason` "length" also stands for a stop string of the request that was hit.
        error_text: A first text with this prefix is an error message, not an answer.
        tells_errors_whole: A stream that it cuts without a word has a reason when asked without streaming.
        abort: Path and key of the route that stops a generation, for a server that does not notice a closed
            connection at once; the key's value is also sent with the request.
        session_header: Header that keeps one conversation on one replica.
        slots: Where it tells how many requests it runs at a time, or the number where it is always the same.
        infill: Its fill-in-the-middle: a route of its own, a `suffix`, or a prompt that the client builds.
    """

    title: str
    default_url: str
    start: str
    signs: tuple[Sign, ...] = ()
    version: Where | None = None
    get_model: str = ""
    widen: str = "Start the server with a larger context window."
    actions: Mapping[ModelAction, Step] = field(default_factory=dict)
    instead: Mapping[ModelAction, str] = field(default_factory=dict)
    models: tuple[tuple[str, ModelListShape], ...] = (("/v1/models", "openai"),)
    loaded: Where | None = None
    window: Where | None = None
    lists_windows: bool = False
    vision: Where | None = None
    count: TokenCount | None = None
    cuts_silently: bool = False
    ignores_model: bool = False
    requires_max_tokens: bool = False
    sends_usage: bool = True
    max_stop: int | None = None
    unsupported: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, FormatRoute] = field(default_factory=dict)
    checked: frozenset[str] = frozenset()
    tools: bool = True
    names_tools: bool = True
    images: bool = True
    logprobs: bool = True
    length_means_stop: bool = False
    error_text: str | None = None
    tells_errors_whole: bool = False
    abort: tuple[str, str] | None = None
    session_header: str | None = None
    slots: Where | int | None = None
    infill: Literal["infill", "suffix", "prompt"] = "prompt"

    @property
    def title_first(self) -> str:
        """The title at the beginning of a sentence."""
        return self.title.replace("the ", "The ", 1) if self.title.startswith("the ") else self.title


# What several records share.

OWNER = ("data", 0, "owned_by")
JSON_OBJECT = FormatRoute("response_format", "json_object")
JSON_SCHEMA = FormatRoute("response_format", "json_schema")
OPENAI_FORMATS = {"json": JSON_OBJECT, "jsonSchema": JSON_SCHEMA}
GRAMMAR_FORMATS = {
    **OPENAI_FORMATS,
    "grammar": FormatRoute("grammar", "verbatim"),
    "choice": FormatRoute("grammar", "choice_gbnf"),
}
_STRUCTURED = FormatRoute("structured_outputs", "structured")
STRUCTURED_FORMATS = {**OPENAI_FORMATS, **dict.fromkeys(("regex", "choice", "grammar"), _STRUCTURED)}
ALL_FORMATS = frozenset({"json", "jsonSchema", "regex", "choice", "grammar"})
ALL_ACTIONS: tuple[ModelAction, ...] = ("pull", "delete", "load", "unload")
DEPLOYED = dict.fromkeys(ALL_ACTIONS, "Change the models in the configuration of the service.")


def owned_by(owner: str, step: int = 50) -> Sign:
    """The sign of a server that names its kind in its list of models."""
    return Sign(step, "/v1/models", keys=OWNER, equals=owner)


def one_model(title: str, start: str) -> dict[ModelAction, str]:
    """What to do instead, on a server that serves the model it was started with."""
    return {
        "pull": f"{title} serves the model it was started with: {start}",
        "delete": f"Delete the file that {title} was started with.",
        "load": f"Start {title} with that model: {start}",
        "unload": f"Stop {title}.",
    }
