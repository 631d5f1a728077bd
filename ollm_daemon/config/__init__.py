"""Where settings come from, whose word counts, and what they amount to."""
