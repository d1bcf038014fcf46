"""Reads the commands of the MySQL protocol from the bytes that a client sends."""

from __future__ import annotations

from typing import NamedTuple

_NAMES = {
    0x01: "QUIT",
    0x02: "INIT_DB",
    0x03: "QUERY",
    0x09: "STATISTICS",
    0x0C: "PROCESS_KILL",
    0x0E: "PING",
    0x11: "CHANGE_USER",
    0x16: "STMT_PREPARE",
    0x17: "STMT_EXECUTE",
    0x19: "STMT_CLOSE",
    0x1B: "SET_OPTION",
    0x1F: "RESET_CONNECTION",
}
_KEPT = 500
_SSL_REQUEST_SIZE = 32
_QUERY_ATTRIBUTES = 1 << 27
#: No attributes, in one set: what libmysqlclient puts before the text of each QUERY.
_NO_ATTRIBUTES = b"\x00\x01"


class Command(NamedTuple):
    name: str
    text: bytes
    """The first 500 bytes after the command's number: of a QUERY, its SQL."""


class CommandReader:
    """Finds the commands in what a client sends, in chunks of any size.

    It uses only the lengths of the packets. So it sees nothing of a connection with TLS or
    compression.
    """

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.encrypted = False
        self._header = b""
        self._payload = b""
        self._left = 0
        self._greeted = False
        self._attributes = False

    def feed(self, data: bytes) -> None:
        while data and not self.encrypted:
            if self._left == 0:
                wanted = 4 - len(self._header)
                self._header += data[:wanted]
                data = data[wanted:]
                if len(self._header) < 4:
                    return
                self._left = int.from_bytes(self._header[:3], "little")
                self._payload = b""
            taken = data[: self._left]
            data = data[self._left :]
            self._left -= len(taken)
            self._payload += taken[: max(0, _KEPT + 1 - len(self._payload))]
            if self._left == 0:
                self._packet(self._header[3])
                self._header = b""

    def _packet(self, sequence: int) -> None:
        if not self._greeted:
            # The answer to the greeting has number 1. If it has only 32 bytes, it asks for TLS.
            self._greeted = True
            self.encrypted = int.from_bytes(self._header[:3], "little") == _SSL_REQUEST_SIZE
            flags = int.from_bytes(self._payload[:4], "little")
            self._attributes = bool(flags & _QUERY_ATTRIBUTES)
        elif sequence == 0 and self._payload:
            name = _NAMES.get(self._payload[0], f"0x{self._payload[0]:02x}")
            text = self._payload[1:]
            if name == "QUERY" and self._attributes:
                text = text.removeprefix(_NO_ATTRIBUTES)
            self.commands.append(Command(name, text))
