"""Backends that somebody else might have written, with ours in front of them or under them."""
