"""One TLS context per alias for PyMySQL, which otherwise builds one for each connection.

Building it loads the certificate authorities that the machine trusts, 30 ms of CPU, where the
rest of opening a connection takes 1 to 3 ms (benchmarks/results). The context is always one that
the driver itself has built: nothing is verified less, or otherwise, than without this.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .. import option_files

__all__ = ["ContextKeeper"]

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


class ContextKeeper:
    """Keeps the TLS context that the driver built for an alias, and lends it to its next connect."""

    def __init__(self) -> None:
        # An entry is read and replaced as a whole, so that threads need no lock: at worst two
        # build a context at the same time.
        self._kept: dict[str, _Kept] = {}

    def lend(self, alias: str, params: dict[str, Any]) -> Callable[[Any], None]:
        """Put the context of `alias` into the parameters, if what it was made from is the same.

        Returns what keeps the context of the connection that the driver opens with them.
        """
        if params.get("ssl_disabled"):
            return _keep_nothing  # none is built, so no file is worth a look
        if isinstance(params.get("ssl"), ssl.SSLContext):
            return _keep_nothing  # the user's own
        # Before the driver looks at the files: what changes in between is then seen next time.
        made_from = _made_from(params)
        kept = self._kept.get(alias)
        if kept is None or kept.made_from != made_from:
            return partial(self._keep, alias, made_from)
        for name in _PARAMETERS:
            params.pop(name, None)
        params["ssl"] = kept.context
        return _keep_nothing

    def _keep(self, alias: str, made_from: tuple[Any, ...], connection: Any) -> None:
        if isinstance(connection._sock, ssl.SSLSocket):
            if alias not in self._kept:
                for oldest in list(self._kept)[: 1 - _MOST]:
                    self._kept.pop(oldest, None)
            self._kept[alias] = _Kept(made_from, connection.ctx, connection._ssl_required)

    def take_back(self, alias: str, params: Mapping[str, Any]) -> bool:
        """The server offers no TLS: True if the driver alone would have gone on without it.

        A context that is handed to the driver makes it insist.
        """
        kept = self._kept.get(alias)
        if kept is None or kept.required or params.get("ssl") is not kept.context:
            return False
        del self._kept[alias]
        return True


def _keep_nothing(connection: Any) -> None:
    """Nothing was built that could be kept."""


def _made_from(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """Everything that the driver's context depends on; a file by what changes with its content."""
    given = {name: params[name] for name in _PARAMETERS if name in params}
    if isinstance(given.get("ssl"), Mapping):
        given["ssl"] = dict(given["ssl"])  # the user may change the settings in place
    environment = [os.environ.get(name) for name in _ENVIRONMENT]
    stamps = [_stamp(path) for path in _files(params)]
    return (given, environment, stamps)


def _files(params: Mapping[str, Any]) -> Iterator[str]:
    """The files and folders that the context was, or may have been, loaded from."""
    parts = params.get("ssl")
    named = [*parts.values()] if isinstance(parts, Mapping) else []
    named += [params.get(name) for name in ("ssl_ca", "ssl_cert", "ssl_key")]
    for file in option_files.read_by_pymysql(params):
        yield file
        named += option_files.values(file)
    yield from (os.fspath(name) for name in named if isinstance(name, (str, os.PathLike)))
    defaults = ssl.get_default_verify_paths()
    yield from filter(None, (defaults.cafile, defaults.capath))


def _stamp(path: str) -> tuple[Any, ...]:
    with suppress(OSError, ValueError):
        state = Path(path).expanduser().stat()
        return (path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    return (path, None)
