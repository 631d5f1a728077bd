"""Adapters between the daemon's vocabulary and what each kind of server speaks."""
