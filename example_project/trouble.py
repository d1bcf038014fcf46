"""What `make run` can do to its temporary server and to the network, for the page that asks.

Only the page's process has the other end of a pair of sockets. There is no port and no file through
which another program could ask.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

from servers import Endpoint, FaultProxy, Server, ServersError


class Path:
    """The network between the page's connections and the server. New connections always pass.

    A proxy in front sends each new connection through the newest of the proxies behind it. So only
    the connections that are open can be blocked, as by a firewall that has forgotten them.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._behind = [FaultProxy(host, port)]
        self._front = FaultProxy(self._behind[0].host, self._behind[0].port)
        self.address = f"{self._front.host}:{self._front.port}"
        self.blocked = False

    def cut(self) -> None:
        """Drop everything, in both directions, for the connections that are open."""
        fresh = FaultProxy(*self._target)
        self._behind.append(fresh)
        self._front.retarget(fresh.host, fresh.port)
        for proxy in self._behind[:-1]:
            proxy.stall()
        self.blocked = True

    def mend(self) -> None:
        """Pass on what was held back, and everything after it."""
        for proxy in self._behind:
            proxy.resume()
        self.blocked = False
        for proxy in self._behind[:-1]:
            if not proxy.open_connections():
                self._behind.remove(proxy)
                proxy.close()

    def hang_up(self) -> None:
        """Close the open connections, as a load balancer does after its idle limit."""
        self._front.cut("rst")

    def close(self) -> None:
        for proxy in (self._front, *self._behind):
            proxy.close()


class Trouble:
    """Does what the page's process asks for, one request at a time, until `close()`."""

    def __init__(self, server: Endpoint) -> None:
        self._server = server
        self.path = Path(server.host, server.port)
        self._acts: dict[str, Callable[[], None]] = {
            "look": lambda: None,
            "cut": self.path.cut,
            "mend": self.path.mend,
            "hang up": self.path.hang_up,
        }
        if isinstance(server, Server):  # a Docker container is not stopped and started
            self._acts |= {"restart": server.restart, "stop": server.stop, "start": self._start}
        self._end, self.theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._answer, name="trouble", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Return when no request is running. No server is started after this."""
        self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._end.close()
        self.theirs.close()
        self.path.close()

    def __enter__(self) -> Trouble:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self) -> None:
        assert isinstance(self._server, Server)
        if not self._server.running:
            self._server.start()

    def _answer(self) -> None:
        with self._end.makefile("r") as requests:
            for line in requests:
                answer = self._do(line.strip())
                try:
                    self._end.sendall(json.dumps(answer).encode() + b"\n")
                except OSError:
                    return  # the page's process has ended, or this one is closing

    def _do(self, act: str) -> dict[str, object]:
        error = ""
        try:
            self._acts[act]()
        except (ServersError, OSError) as problem:
            error = str(problem)
        except KeyError:
            error = f"expected one of {', '.join(self._acts)}, got {act!r}"
        running = self._server.running if isinstance(self._server, Server) else True
        return {
            "acts": list(self._acts),
            "error": error,
            "running": running,
            "blocked": self.path.blocked,
        }
