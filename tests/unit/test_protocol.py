"""The generated contract: nothing is stale, and every example is what models and schemas say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from ollm_daemon import errors
from ollm_daemon.config.layers import make_layer
from ollm_daemon.config.options import OptionsModel
from ollm_daemon.config.resolve import resolve
from ollm_daemon.protocol import chat, initialize, state
from ollm_daemon.protocol.base import WireModel
from ollm_daemon.protocol.methods import ERROR_CODES, ERROR_KINDS, METHODS
from protocol import generate
from protocol._render import ts_type
from protocol._schemas import error_names, settings_schema

FOLDER = generate.ROOT / "protocol"
EXAMPLES = generate.load_examples()
SPEC = (FOLDER / "SPEC.md").read_text(encoding="utf-8")
DEFINITIONS: dict[str, Any] = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))["$defs"]
PARTLY_GENERATED = {
    "SPEC.md": b"| --- |",
    "package.json": b"%generated.provider%",
    "package.nls.json": b'Sampling"',
}
"""Files that are written by hand too, and what of them is not."""
GENERATED = sorted(generate.outputs(generate.load_kept(), EXAMPLES))


def copy_of_the_contract(folder: Path) -> Path:
    shutil.copytree(FOLDER, folder / "protocol", ignore=shutil.ignore_patterns("__pycache__"))
    for name in GENERATED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(generate.ROOT / name, folder / name)
    return folder


def test_nothing_is_stale() -> None:
    stale = [path.name for path in generate.stale_files()]
    assert not stale, "run `python protocol/generate.py write`"


@pytest.mark.parametrize("name", GENERATED)
def test_one_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    path = copy_of_the_contract(tmp_path) / name
    text = path.read_bytes()
    mark = PARTLY_GENERATED.get(path.name)
    place = text.index(mark) if mark else len(text) // 2
    path.write_bytes(text[:place] + b"#" + text[place + 1 :])
    assert list(generate.stale_files(tmp_path)) == [path]


def test_the_command_names_stale_files_and_mends_them(tmp_path: Path) -> None:
    script = copy_of_the_contract(tmp_path) / "protocol" / "generate.py"
    (tmp_path / "protocol" / "openrpc.json").unlink()
    (tmp_path / "protocol" / "examples" / "status.request.json").unlink()

    def run(command: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, script, command], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    stale = ["protocol/openrpc.json", "clients/vscode/test/protocol/protocol-examples.gen.ts"]
    names = "".join(f"stale: {name}\n" for name in stale)
    assert run("check") == (1, f"{names}Run `python protocol/generate.py write`.\n")
    assert run("write") == (0, names.replace("stale", "wrote"))
    assert run("check") == (0, "")
    assert run("dance")[0] == 2


# examples


def wire_parts(example: generate.Example) -> list[tuple[type[WireModel], Any]]:
    """What of a message is ours, each with its model."""
    message = example.message
    if example.part == "error":
        data = message["error"].get("data")
        return [(state.ErrorData, data)] if isinstance(data, dict) else []
    if example.method == "initialize":
        if example.part == "request":
            return [(initialize.InitializationOptions, message["params"]["initializationOptions"])]
        experimental = message["result"]["capabilities"]["experimental"]
        return [(initialize.ExperimentalCapability, experimental["ollm"])]
    method = METHODS[example.method]
    if example.part == "response":
        assert method.result is not None
        return [(method.result, message["result"])]
    return [(method.params, message["params"])]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_what_its_model_and_its_schema_say(example: generate.Example) -> None:
    for model, part in wire_parts(example):
        parsed = model.model_validate(part)
        assert parsed.model_dump(mode="json", by_alias=True, exclude_none=True) == part
        schema = {"$ref": f"#/$defs/{model.__name__}", "$defs": DEFINITIONS}
        Draft202012Validator(schema).validate(part)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_a_message_of_json_rpc(example: generate.Example) -> None:
    keys = {
        "request": ["jsonrpc", "id", "method", "params"],
        "response": ["jsonrpc", "id", "result"],
        "notification": ["jsonrpc", "method", "params"],
        "error": ["jsonrpc", "id", "error"],
    }
    assert list(example.message) == keys[example.part]
    assert example.message["jsonrpc"] == "2.0"
    assert example.message.get("method", example.method) == example.method
    if example.part == "error":
        assert example.message["error"]["code"] in ERROR_CODES


def test_every_method_has_an_example_of_each_of_its_messages() -> None:
    wanted = {
        (name, part)
        for name, method in METHODS.items()
        for part in (("request", "response") if method.result else ("notification",))
    }
    assert wanted <= {(example.method, example.part) for example in EXAMPLES}


def test_every_kind_of_delta_content_and_format_has_an_example() -> None:
    said = json.dumps([example.message for example in EXAMPLES])
    for union, tag in ((chat.Delta, "kind"), (chat.ContentPart, "type"), (chat.ResponseFormat, "type")):
        for model in get_args(get_args(union)[0]):
            (value,) = get_args(model.model_fields[tag].annotation)
            assert f'"{tag}": "{value}"' in said


def test_every_error_code_and_error_class_has_an_example_named_for_it() -> None:
    found = [example for example in EXAMPLES if example.part == "error"]
    for example in found:
        error = example.message["error"]
        names = {name for name, code in error_names().items() if code == error["code"]}
        kind = (
            error["data"]["kind"]
            if error["code"] == -32803
            else re.sub("([A-Z])", r"-\1", names.pop()).lower()
        )
        assert example.name.rpartition(".")[2] == kind.replace("_", "-")
    assert {example.message["error"]["code"] for example in found} == set(ERROR_CODES)
    kinds: dict[type[errors.OllmError], errors.ErrorKind] = {
        errors.ConfigError: errors.ErrorKind.CONFIG,
        errors.InvalidRequestError: errors.ErrorKind.INVALID,
        errors.UnsupportedError: errors.ErrorKind.UNSUPPORTED,
        errors.UnreachableError: errors.ErrorKind.UNREACHABLE,
        errors.TimeoutPassedError: errors.ErrorKind.TIMEOUT_FIRST_TOKEN,
        errors.RefusedError: errors.ErrorKind.AUTH,
        errors.BrokenAnswerError: errors.ErrorKind.STREAM_TRUNCATED,
    }
    classes = {*errors.OllmError.__subclasses__(), *errors.ProviderError.__subclasses__()}
    assert set(kinds) == classes - {errors.ProviderError}
    assert {f"chat.error.{kind.replace('_', '-')}" for kind in kinds.values()} <= {
        example.name for example in found
    }


def test_a_file_that_is_named_for_no_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"examples/chatter\.request\.json"):
        generate.read_example("chatter.request", "{}")


# schemas


def test_every_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema({"$defs": DEFINITIONS})
    Draft7Validator.check_schema(settings_schema())


def test_every_model_of_the_contract_is_in_the_schema_and_has_a_table() -> None:
    models = {
        name
        for module in (chat, initialize, state)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, WireModel) and value is not WireModel
    }
    assert models <= set(DEFINITIONS)
    shown = [
        name for names in re.findall(r"<!-- generated: fields: (.+?) -->", SPEC) for name in names.split()
    ]
    assert sorted([*shown, "ErrorKind"]) == sorted(DEFINITIONS)


def test_names_on_the_wire_are_camel_case_and_nothing_is_null() -> None:
    for name, schema in DEFINITIONS.items():
        assert '"null"' not in json.dumps(schema)
        for field in schema.get("properties", {}) if name != "VllmExtraOptions" else ():
            assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*[A-Z]?", field)


def test_the_open_rpc_document_holds_the_requests_and_refers_to_what_it_has() -> None:
    document = json.loads((FOLDER / "openrpc.json").read_text(encoding="utf-8"))
    requests = [name for name, method in METHODS.items() if method.result]
    assert [method["name"] for method in document["methods"]] == requests
    assert [note["name"] for note in document["x-notifications"]] == [
        name for name in METHODS if name not in requests
    ]
    for reference in re.findall(r'"\$ref": "#/(.+?)"', json.dumps(document)):
        target = document
        for key in reference.split("/"):
            target = target[key]


def test_kinds_of_errors_are_the_same_in_every_language() -> None:
    assert list(ERROR_KINDS) == [*errors.ErrorKind, "internal"]
    module = (generate.ROOT / "clients/vscode/src/protocol.gen.ts").read_text(encoding="utf-8")
    declaration = re.search(r"export type ErrorKind =([^;]+);", module)
    assert declaration is not None
    assert re.findall(r'"(\w+)"', declaration[1]) == list(ERROR_KINDS)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            "(string | number)[]",
        ),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "Record<string, boolean>"),
        ({"type": "object", "additionalProperties": True}, "Record<string, unknown>"),
        ({"enum": ["a", "b"], "type": "string"}, '"a" | "b"'),
        ({"$ref": "#/$defs/Delta"}, "Delta"),
        ({}, "unknown"),
    ],
)
def test_a_schema_as_a_type_of_typescript(schema: dict[str, Any], expected: str) -> None:
    assert ts_type(schema) == expected


# settings

SETTINGS = {
    "local": """
        provider: local
        model: llama3.2:3b
        """,
    "vllm": """
        provider: vllm
        providers:
          vllm:
            baseUrl: http://gpu-server:8000
            apiKey: ${VLLM_API_KEY}
        model: meta-llama/Llama-2-7b-chat-hf
        """,
    "openai-compatible": """
        provider: openai-compatible
        providers:
          openai-compatible:
            baseUrl: http://localhost:1234
            backend: lmstudio
        """,
}
WRONG_SETTINGS = {
    "an unknown key": {"modle": "llama3.2:3b"},
    "an unknown key of a provider": {"providers": {"vllm": {"url": "http://gpu-server:8000"}}},
    "an unknown backend": {"providers": {"mine": {"backend": "skynet"}}},
    "a text for a number": {"options": {"temperature": "warm"}},
    "a number out of range": {"providers": {"local": {"timeouts": {"idle": 0}}}},
}


@pytest.mark.parametrize("text", SETTINGS.values(), ids=list(SETTINGS))
def test_the_settings_schema_and_the_daemon_accept_what_users_write(text: str) -> None:
    settings = yaml.safe_load(text)
    Draft7Validator(settings_schema()).validate(settings)
    assert make_layer("user file", settings).problems == ()


@pytest.mark.parametrize("settings", WRONG_SETTINGS.values(), ids=list(WRONG_SETTINGS))
def test_the_settings_schema_and_the_daemon_find_what_is_wrong(settings: dict[str, Any]) -> None:
    assert list(Draft7Validator(settings_schema()).iter_errors(settings))
    assert make_layer("user file", settings).problems


def test_every_setting_has_a_title_and_a_description() -> None:
    schema = settings_schema()
    models = [schema, *schema["definitions"].values()]
    assert len(schema["definitions"]) == len(OptionsModel.__subclasses__()) - 1
    for model in models:
        for setting in model["properties"].values():
            assert setting["title"]
            assert setting["description"]
    assert schema["definitions"]["ProviderOptions"]["properties"]["apiKey"] == {
        "type": "string",
        "title": "API key",
        "description": "Key of the server. In the user file `${VARIABLE}` is filled in.",
    }


def test_the_documented_default_provider_is_the_default() -> None:
    assert settings_schema()["properties"]["provider"]["default"] == resolve(()).provider
