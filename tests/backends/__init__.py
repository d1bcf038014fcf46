"""Backends as other people write them, with ours in front of them or under them."""
