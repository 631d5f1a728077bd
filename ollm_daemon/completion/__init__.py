"""Inline completion at a cursor: what to ask, whom, when, and what of the answer to show."""
