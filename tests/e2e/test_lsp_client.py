"""A language client that checks the specification talks to the daemon: pytest-lsp over standard streams."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_lsp
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcRequestCancelled
from pytest_lsp import ClientServerConfig, LanguageClient

from tests.fakes.captures import OLLAMA, capture
from tests.fakes.peer import process_environment
from tests.fakes.upstream import End, Reply, ScriptedUpstream

pytestmark = pytest.mark.slow
HOME = Path(__file__).parent / "no-such-home"
BEGUN = capture(OLLAMA, "chat-stream")
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "streamToken": "t"}


def client_factory() -> Any:
    """A client that collects deltas."""
    client: Any = pytest_lsp.make_test_lsp_client()
    client.deltas = []

    @client.feature("ollm/completion/delta")  # type: ignore[untyped-decorator]
    def on_delta(params: Any) -> None:
        client.deltas.append(params)

    return client


@pytest_lsp.fixture(  # type: ignore[untyped-decorator]
    config=ClientServerConfig(
        server_command=[sys.executable, "-P", "-m", "ollm_daemon", "--stdio"],
        client_factory=client_factory,
        server_env=process_environment(HOME),
    )
)
async def client(lsp_client: LanguageClient) -> AsyncIterator[None]:
    """Neovim's capabilities, and its settings when it is asked for them."""
    await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=pytest_lsp.client_capabilities("neovim"),
            workspace_folders=[types.WorkspaceFolder(uri="file:///no/such/folder", name="none")],
        )
    )
    yield
    await lsp_client.shutdown_session()


async def use(client: Any, upstream: ScriptedUpstream) -> None:
    """Make the scripted Ollama what the user configured in the editor."""
    settings = {"provider": "local", "model": "m", "providers": {"local": {"baseUrl": upstream.url}}}
    await client.protocol.send_request_async("ollm/config/set", {"userSettings": settings})


@pytest.mark.asyncio
async def test_a_chat_streams_to_an_editor(client: Any) -> None:
    async with ScriptedUpstream(Reply(BEGUN)) as upstream:
        await use(client, upstream)
        result = await client.protocol.send_request_async("ollm/chat", CHAT)
        assert result.message.content == "The most obvious colour is white"
        texts = [params.delta.text for params in client.deltas if params.delta.kind == "text"]
        assert "".join(texts) == result.message.content
        assert client.error is None


@pytest.mark.asyncio
async def test_cancel_request_ends_it_with_the_code_of_the_specification(client: Any) -> None:
    async with ScriptedUpstream(Reply(BEGUN[: BEGUN.index(b" colour")], End.STALL)) as upstream:
        await use(client, upstream)
        answer = client.protocol.send_request("ollm/chat", CHAT, msg_id="c1")
        await upstream.request()
        client.cancel_request(types.CancelParams(id="c1"))
        await upstream.connections[0].peer_closed()
        with pytest.raises(JsonRpcRequestCancelled):
            answer.result(timeout=0) if answer.done() else await _result(answer)


@pytest.mark.asyncio
async def test_a_failure_reads_as_one_sentence(client: Any) -> None:
    async with ScriptedUpstream(Reply(capture(OLLAMA, "err-unknown-model"))) as upstream:
        await use(client, upstream)
        with pytest.raises(JsonRpcException) as caught:
            await client.protocol.send_request_async("ollm/chat", CHAT)
        assert caught.value.code == -32803
        assert caught.value.message.startswith("Ollama at http://127.0.0.1:")


@pytest.mark.asyncio
async def test_documents_are_synchronised(client: Any) -> None:
    document = types.TextDocumentItem(
        uri="file:///a.py", language_id="python", version=1, text="a\U0001f600b\n"
    )
    client.text_document_did_open(types.DidOpenTextDocumentParams(document))
    edit = types.TextDocumentContentChangePartial(
        range=types.Range(start=types.Position(0, 1), end=types.Position(0, 3)), text="ö"
    )
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(types.VersionedTextDocumentIdentifier(2, "file:///a.py"), [edit])
    )
    client.text_document_did_close(
        types.DidCloseTextDocumentParams(types.TextDocumentIdentifier("file:///a.py"))
    )
    status = await client.protocol.send_request_async("ollm/status", {})
    assert status.connections == 1


async def _result(answer: Any) -> Any:
    return await asyncio.wait_for(asyncio.wrap_future(answer), 5)
