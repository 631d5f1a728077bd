"""Guides for users, and the script that fills in their tables."""
