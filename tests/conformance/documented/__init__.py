"""Servers whose bytes are put together from their source or documentation, one module each.

Beside each answer stands where it was read. Where nothing is said, it has the line above as its source.
"""
