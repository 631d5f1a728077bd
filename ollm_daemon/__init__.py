"""Local and self-hosted language models inside any editor: one daemon, spoken to like a language server."""

__version__ = "0.1.0"
