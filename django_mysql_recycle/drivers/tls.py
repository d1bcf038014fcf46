"""One TLS context per alias for PyMySQL, which otherwise builds one for each connection.

Building it loads the certificate authorities that the machine trusts, 30 ms of CPU, where the
rest of opening a connection takes 1 to 3 ms (docs/performance.md). The context is always one that
the driver itself has built, and one that verifies is kept only where it is known which files it
trusts: nothing is verified less, or otherwise, than without this.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .. import option_files

__all__ = ["ContextKeeper", "Loan"]

#: The driver's parameters that say how the context is built. PyMySQL 1.2.4:
#: https://github.com/PyMySQL/PyMySQL/blob/v1.2.4/pymysql/connections.py#L276
_PARAMETERS = (
    "ssl",
    "ssl_ca",
    "ssl_cert",
    "ssl_disabled",
    "ssl_key",
    "ssl_key_password",
    "ssl_verify_cert",
    "ssl_verify_identity",
)
#: What Python's ssl module and OpenSSL take from the environment.
_ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

#: A context holds nearly a megabyte. A project that makes up aliases as it goes (one for each
#: tenant, say) pays for the oldest as it would without this.
_MOST = 32


class _Kept(NamedTuple):
    made_from: tuple[Any, ...]
    context: ssl.SSLContext
    #: False: the driver goes on without TLS where the server has none.
    required: bool


@dataclass(slots=True)
class Loan:
    """What one connect is given, and may give back."""

    keeper: ContextKeeper
    alias: str
    made_from: tuple[Any, ...]
    #: A context was lent, and the driver alone would not have insisted on TLS.
    insists: bool = False
    #: There was none: the driver builds one now.
    builds: bool = True

    def keep(self, connection: Any) -> None:
        """Keep the context of the connection that the driver has opened."""
        if self.builds and isinstance(connection._sock, ssl.SSLSocket):
            kept = _Kept(self.made_from, connection.ctx, connection._ssl_required)
            if _depends_on_named_files_alone(kept):
                self.keeper.keep(self.alias, kept)


class ContextKeeper:
    """Keeps the TLS context that the driver built for an alias, and lends it to its next connect."""

    def __init__(self) -> None:
        # An entry is read and replaced as a whole, so that threads need no lock: at worst two
        # build a context at the same time.
        self._kept: dict[str, _Kept] = {}

    def lend(self, alias: str, params: dict[str, Any]) -> Loan | None:
        """Put the context of `alias` into the parameters, if what it was made from is the same.

        None: the parameters are the driver's own matter.
        """
        if (
            params.get("ssl_disabled")
            or isinstance(params.get("ssl"), ssl.SSLContext)
            or option_files.mentions_tls(params)
        ):
            return None
        # Before the driver looks at the files: what changes in between is then seen next time.
        loan = Loan(self, alias, _made_from(params))
        kept = self._kept.get(alias)
        if kept is not None and kept.made_from == loan.made_from:
            for name in _PARAMETERS:
                params.pop(name, None)
            params["ssl"] = kept.context
            loan.builds, loan.insists = False, not kept.required
        return loan

    def keep(self, alias: str, kept: _Kept) -> None:
        if alias not in self._kept:
            for oldest in list(self._kept)[: 1 - _MOST]:
                self._kept.pop(oldest, None)
        self._kept[alias] = kept


def _depends_on_named_files_alone(kept: _Kept) -> bool:
    """Whether a change of what it trusts would be noticed.

    Folders of authorities, the system's among them, are read while a certificate is verified, and
    a link in them can point elsewhere tomorrow.
    """
    if kept.context.verify_mode == ssl.CERT_NONE:
        return True
    given = {name: value for name, _, value in kept.made_from[0]}
    return bool(given.get("ssl_ca") or given.get("ssl.ca")) and not given.get("ssl.capath")


def _made_from(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """Everything that the driver's context depends on; a file by what changes with its content."""
    given = []
    for name in _PARAMETERS:
        value = params.get(name)
        parts: dict[str, Any] = {}
        if isinstance(value, Mapping):
            parts = {f"{name}.{key}": part for key, part in value.items()}
        # With its type: False == 0, and the driver does not take one for the other.
        given += [(key, type(part), part) for key, part in (parts or {name: value}).items()]
    environment = [os.environ.get(name) for name in _ENVIRONMENT]
    return (given, environment, [_stamp(path) for path in _files(given)])


def _files(given: list[tuple[str, type, Any]]) -> Iterator[str]:
    """The files that the context may have been loaded from."""
    for _, _, value in given:
        if isinstance(value, (str, bytes, os.PathLike)):
            yield os.fsdecode(value)


def _stamp(path: str) -> tuple[Any, ...]:
    with suppress(OSError, ValueError):
        state = Path(path).stat()
        # The last one shows a file that was overwritten and given its old times again.
        return (
            path,
            state.st_dev,
            state.st_ino,
            state.st_size,
            state.st_mtime_ns,
            state.st_ctime_ns,
        )
    return (path, None)
