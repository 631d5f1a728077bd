"""Between the wire and the domain: params in, results out, and the one table of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ollm_daemon import domain
from ollm_daemon.checkup import Checkup
from ollm_daemon.completion.statistics import CompletionStatistics
from ollm_daemon.config.settings import ConfigProblem, RoutingRequest, Setting
from ollm_daemon.errors import OllmError, ProviderError
from ollm_daemon.protocol import chat, completion, state
from ollm_daemon.providers._guided import lift_guided
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.server.endpoint import INVALID_PARAMS, REQUEST_FAILED, RpcError


def to_chat_request(
    params: chat.ChatParams, defaults: domain.GenerationOptions, session: str
) -> domain.ChatRequest:
    """A chat request for a model yet to be named; options of the request stand above the defaults.

    Raises:
        UnsupportedError: More than one constraint.
    """
    request = domain.ChatRequest(
        model="",
        messages=tuple(to_message(message) for message in params.messages),
        options=to_options(params.options, defaults),
        tools=tuple(
            domain.Tool(tool.name, tool.description or "", tool.parameters) for tool in params.tools or ()
        ),
        tool_choice=params.tool_choice,
        response_format=_to_format(params.response_format),
        stream=params.stream_token is not None or not _searches_beams(params.options),
        session=session,
    )
    return lift_guided(request)


def _searches_beams(options: chat.GenerationOptions | None) -> bool:
    return bool(options and options.extra_body and options.extra_body.get("use_beam_search"))


def to_message(message: chat.Message) -> domain.Message:
    """One turn; images hold their data by now."""
    content: str | tuple[domain.TextPart | domain.ImagePart, ...]
    if isinstance(message.content, str):
        content = message.content
    else:
        content = tuple(
            domain.TextPart(part.text)
            if isinstance(part, chat.TextContent)
            else domain.ImagePart(part.media_type or "", part.data or "")
            for part in message.content
        )
    calls = tuple(domain.ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls or ())
    return domain.Message(message.role, content, calls, message.tool_call_id)


def to_options(
    options: chat.GenerationOptions | None, defaults: domain.GenerationOptions
) -> domain.GenerationOptions:
    """Options of a request above the settings' defaults."""
    if options is None:
        return defaults

    def either(name: str) -> Any:
        value = getattr(options, name)
        return getattr(defaults, name) if value is None else value

    return domain.GenerationOptions(
        temperature=either("temperature"),
        top_p=either("top_p"),
        top_k=either("top_k"),
        min_p=either("min_p"),
        max_tokens=either("max_tokens"),
        stop=tuple(either("stop")),
        seed=either("seed"),
        repeat_penalty=either("repeat_penalty"),
        presence_penalty=either("presence_penalty"),
        frequency_penalty=either("frequency_penalty"),
        top_logprobs=either("top_logprobs"),
        extra_body={**defaults.extra_body, **(options.extra_body or {})},
    )


def _to_format(wanted: chat.ResponseFormat | None) -> domain.ResponseFormat:
    match wanted:
        case None:
            return domain.ResponseFormat("text")
        case chat.JsonFormat():
            return domain.ResponseFormat("json")
        case chat.JsonSchemaFormat():
            return domain.ResponseFormat("jsonSchema", wanted.json_schema)
        case chat.RegexFormat():
            return domain.ResponseFormat("regex", wanted.pattern)
        case chat.ChoiceFormat():
            return domain.ResponseFormat("choice", wanted.choices)
        case chat.GrammarFormat():
            return domain.ResponseFormat("grammar", wanted.grammar)


def from_result(result: domain.GenerationResult) -> chat.ChatResult:
    """The response of `ollm/chat`."""
    server = result.timings or domain.Timings()
    usage = result.usage
    return chat.ChatResult(
        message=chat.AssistantMessage(
            content=result.text,
            thinking=result.thinking or None,
            tool_calls=[
                chat.ToolCall(id=call.id, name=call.name, arguments=call.arguments)
                for call in result.tool_calls
            ]
            or None,
        ),
        finish_reason=result.finish_reason,
        usage=usage
        and chat.Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
        ),
        timings=chat.Timings(
            first_token_ms=result.first_token_ms,
            total_ms=result.total_ms,
            load_ms=server.load_ms,
            prompt_ms=server.prompt_ms,
            generation_ms=server.generation_ms,
        ),
        provider=result.provider,
        model=result.model,
        logprobs=[_from_logprob(token) for token in result.logprobs] or None,
        warnings=list(result.warnings) or None,
    )


def from_infill(result: domain.GenerationResult) -> completion.InfillResult:
    """The response of `ollm/infill`."""
    whole = from_result(result)
    return completion.InfillResult(
        text=result.text,
        finish_reason=whole.finish_reason,
        usage=whole.usage,
        timings=whole.timings,
        provider=whole.provider,
        model=whole.model,
    )


def _from_logprob(token: domain.TokenLogprob) -> chat.TokenLogprob:
    top = [chat.TopLogprob(token=text, logprob=value) for text, value in token.top]
    return chat.TokenLogprob(token=token.token, logprob=token.logprob, top=top or None)


def from_model(model: domain.ModelInfo) -> state.ModelInfo:
    """One entry of `ollm/models/list`."""
    return state.ModelInfo(
        id=model.id,
        context_length=model.context_length,
        max_context_length=model.max_context_length,
        size_bytes=model.size_bytes,
        parameter_size=model.parameter_size,
        quantization=model.quantization,
        capabilities=None if model.capabilities is None else list(model.capabilities),
        loaded=model.loaded,
    )


def from_checkup(adapter: ProviderAdapter, checkup: Checkup) -> state.ProvidersCheckResult:
    """The response of `ollm/providers/check`."""
    trial = checkup.trial
    return state.ProvidersCheckResult(
        provider=adapter.name,
        base_url=adapter.base_url or None,
        state=checkup.state,
        backend=adapter.backend.title,
        version=checkup.identity.version,
        key=checkup.key,
        models=[from_model(model) for model in checkup.models],
        trial=trial
        and state.Trial(
            model=trial.model,
            first_token_ms=trial.first_token_ms,
            tokens_per_second=trial.tokens_per_second,
            cancelled_ms=trial.cancelled_ms,
        ),
        problems=[
            state.CheckProblem(
                message=problem.message,
                hint=problem.hint or None,
                kind=problem.kind.value if problem.kind else None,
            )
            for problem in checkup.problems
        ],
    )


def from_statistics(counts: CompletionStatistics) -> completion.CompletionStatus:
    """The part of `ollm/status` about text at the cursor."""
    return completion.CompletionStatus(
        requests=counts.requests,
        generations=counts.generations,
        superseded=counts.superseded,
        cache_hits=counts.cache_hits,
        joined=counts.joined,
        offered=counts.shown,
        accepted=counts.accepted,
        rejected=counts.rejected,
        failures=counts.failures,
        median_ms=counts.percentile(0.5),
        slow_ms=counts.percentile(0.95),
    )


def from_setting(setting: Setting) -> state.EffectiveSetting:
    """One entry of `ollm/config/get`."""
    origin = setting.origin
    return state.EffectiveSetting(
        key=setting.key,
        value=setting.value,
        origin=state.SettingOrigin(layer=origin.layer, source=origin.source or None, line=origin.line),
    )


def from_problem(problem: ConfigProblem) -> state.ConfigProblem:
    """A problem of the configuration."""
    return state.ConfigProblem(
        severity=problem.severity,
        message=problem.message,
        hint=problem.hint or None,
        key=problem.key or None,
        source=problem.source or None,
        line=problem.line,
    )


def from_routing(request: RoutingRequest) -> state.RoutingRequest:
    """One entry of `ollm/trust/get`."""
    return state.RoutingRequest(
        workspace=request.workspace,
        source=request.source,
        question=request.question,
        values={key: value for key, value in request.values.items() if value is not None},
        digest=request.digest,
    )


def to_rpc_error(error: OllmError) -> RpcError:
    """The error response of a named failure."""
    data = state.ErrorData(kind=error.kind.value, hint=error.hint or None)
    if isinstance(error, ProviderError):
        hint = error.hint.replace("{model}", error.model or "MODEL")
        data = state.ErrorData(
            kind=error.kind.value,
            hint=hint or None,
            provider=error.provider,
            model=error.model,
            status=error.status,
            retry_after=error.retry_after,
            partial_text=error.partial_text or None,
        )
    return RpcError(REQUEST_FAILED, str(error), data.model_dump(by_alias=True, exclude_none=True))


def invalid_params(method: str, error: ValidationError) -> RpcError:
    """The error response for params that are not what the method takes; no value is repeated."""
    problems = [
        state.ParamsProblem(key=".".join(str(part) for part in item["loc"]), message=item["msg"])
        for item in error.errors(include_input=False, include_url=False, include_context=False)[:20]
    ]
    return wrong_params(method, problems)


def wrong_params(method: str, problems: Sequence[state.ParamsProblem]) -> RpcError:
    """The error response that lists what is wrong with the params."""
    first = problems[0]
    place = f"`{first.key}`: " if first.key else ""
    sentence = f"Invalid params of {method}: {place}{first.message}."
    return RpcError(INVALID_PARAMS, sentence, [problem.model_dump(by_alias=True) for problem in problems])
