"""The wire contract as files, for people and for tools; see README.md."""
