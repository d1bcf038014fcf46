"""What the test proxy reads out of a client's bytes."""

from __future__ import annotations

import pytest

from servers.commands import CommandReader

QUERY_ATTRIBUTES = 1 << 27


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


@pytest.mark.parametrize(
    ("flags", "payload", "text"),
    [
        (0, b"\x03SELECT 1", b"SELECT 1"),
        (QUERY_ATTRIBUTES, b"\x03\x00\x01SELECT 1", b"SELECT 1"),
        (0, b"\x03\x00\x01SELECT 1", b"\x00\x01SELECT 1"),
    ],
)
def test_query_attributes_are_left_out_where_the_client_sends_them(
    flags: int, payload: bytes, text: bytes
) -> None:
    reader = CommandReader()
    reader.feed(packet(1, flags.to_bytes(4, "little") + bytes(60)))
    reader.feed(packet(0, payload))
    assert reader.commands == [("QUERY", text)]
