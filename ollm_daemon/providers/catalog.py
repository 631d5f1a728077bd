"""Kind of provider → class: the only such table, and the built-in names of the seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollm_daemon.domain import ProviderSettings
from ollm_daemon.providers.base import ProviderAdapter
from ollm_daemon.providers.embedded import EmbeddedProvider
from ollm_daemon.providers.local import LocalProvider
from ollm_daemon.providers.openai_compatible import OpenAICompatibleProvider
from ollm_daemon.providers.vllm import VllmProvider

KINDS: Mapping[str, Callable[[ProviderSettings], ProviderAdapter]] = {
    "local": LocalProvider,
    "vllm": VllmProvider,
    "openai-compatible": OpenAICompatibleProvider,
    "embedded": EmbeddedProvider,
}
