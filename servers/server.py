"""A MySQL or MariaDB server that can be started, stopped, killed, paused and restarted."""

from __future__ import annotations

import secrets
import signal
from pathlib import Path

from .certificates import make_certificates
from .endpoint import Endpoint
from .errors import ServersError, StartFailed
from .greeting import NoGreeting, read_greeting
from .installation import Installation, check_vendor, obtain_installation
from .machine import free_port, give_to_server_user
from .owned import Owned
from .process import Process
from .template import FILE_SIZES, copy_template

OptionValue = str | int | float | bool

_COMMON_OPTIONS: dict[str, OptionValue] = {
    "skip_name_resolve": True,
    "performance_schema": False,
    "skip_log_bin": True,
    "max_connections": 200,
    # The data need not survive a crash of the machine. A killed server keeps what it committed.
    "innodb_flush_log_at_trx_commit": 2,
    "innodb_buffer_pool_size": "32M",
    "local_infile": True,
}
_VENDOR_OPTIONS: dict[str, dict[str, OptionValue]] = {
    "mariadb": {},
    "mysql": {"mysqlx": False, "secure_file_priv": "NULL"},
}


class Server(Owned, Endpoint):
    """A temporary server with its own data folder, port, unix socket and TLS certificate.

    Options of the server are keyword arguments: `Server("mariadb", wait_timeout=3)`. The server
    starts in `start()` or on entering a `with` block. `destroy()`, the end of the block, or the end of this
    process in any way removes it completely. Timeouts are in seconds.
    """

    def __init__(
        self,
        vendor: str,
        *,
        host: str = "127.0.0.1",
        namespace: str = "",
        installation: Installation | None = None,
        **options: OptionValue,
    ) -> None:
        self.installation = installation or obtain_installation(check_vendor(vendor))
        super().__init__(
            host=host,
            port=0,
            user="recycle",
            password=secrets.token_hex(12),
            vendor=self.installation.vendor,
            version=self.installation.version,
        )
        self.namespace = namespace
        self.options = {**_COMMON_OPTIONS, **_VENDOR_OPTIONS[self.vendor], **options}
        self._take_folder(f"recycle-{self.vendor}")
        self.socket = str(self.directory / "run" / "server.sock")
        self.log = self.directory / "run" / "server.log"
        try:
            self._prepare()
        except BaseException:
            self.destroy()
            raise

    def _prepare(self) -> None:
        for name in ("run", "tmp"):
            (self.directory / name).mkdir()
        copy_template(self.installation, self.directory / "data")
        self.certificates = make_certificates(self.directory / "tls", self.host, "127.0.0.1")
        self.ca = self.certificates.ca
        self._accounts = self.directory / "accounts.sql"
        self._accounts.write_text(self._account_statements())
        self._accounts.chmod(0o600)
        give_to_server_user(*self.directory.iterdir())

    def _account_statements(self) -> str:
        # An init file has one statement per line and needs no client. It runs at every start.
        # MariaDB's anonymous users on localhost come before user@'%', hence three accounts.
        lines = []
        for host in ("%", "localhost", "127.0.0.1"):
            account = f"'{self.user}'@'{host}'"
            lines.append(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{self.password}';")
            lines.append(f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;")
        lines.append(f"CREATE DATABASE IF NOT EXISTS {self.database} CHARACTER SET utf8mb4;")
        return "\n".join(lines) + "\n"

    @property
    def pid(self) -> int:
        return self._required().pid

    def start(self, *, timeout: float = 60) -> None:
        """Start the server and return when it accepts clients. Raises `StartFailed` with its log."""
        if self.running:
            raise ServersError(f"{self!r} is already running")
        first = self.port == 0
        for attempt in (1, 2):
            # The port stays the same, so that clients find the server after a restart.
            if first:
                self.port = free_port() if self.host == "127.0.0.1" else 3306
            try:
                self._start(timeout)
            except StartFailed:
                # MariaDB can fail once under load, and another process may take the port.
                if attempt == 2:
                    raise
            else:
                return

    def _start(self, timeout: float) -> None:
        # A server that was killed leaves this file. MySQL trusts it if a process has the id in it.
        Path(f"{self.socket}.lock").unlink(missing_ok=True)
        process = self._process = Process(self._command(), log=self.log, namespace=self.namespace)
        process.wait_until(self._greets, timeout=timeout, what=f"{self.vendor} {self.version}")

    def _command(self) -> list[str]:
        values = {name.replace("_", "-"): value for name, value in self.options.items()}
        return [
            *self.installation.command,
            "--no-defaults",
            *self.installation.options,
            *FILE_SIZES[self.vendor],
            f"--datadir={self.directory}/data",
            f"--tmpdir={self.directory}/tmp",
            f"--pid-file={self.directory}/run/server.pid",
            f"--socket={self.socket}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            # Some tests open 200 connections at once. If the queue is full, a client gets no greeting.
            "--back-log=400",
            f"--init-file={self._accounts}",
            *self.certificates.options(),
            *(f"--{name}={_text(value)}" for name, value in values.items()),
        ]

    def _greets(self) -> bool:
        try:
            self.version = read_greeting(self.host, self.port) or self.version
        except NoGreeting:
            return False
        return True

    def stop(self) -> None:
        """Shut the server down, as an administrator does."""
        self._required().end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash does."""
        self._required().end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server if it runs and start it again, on the same port and data."""
        if self.running:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Stop the process from running (SIGSTOP). Its kernel acknowledges, but no answer comes."""
        self._required().pause()

    def resume(self) -> None:
        """Let a paused process run again. It does nothing if the process was not paused."""
        self._required().send_signal(signal.SIGCONT)

    def _required(self) -> Process:
        if self._process is None:
            raise ServersError(f"{self!r} was never started")
        return self._process


def _text(value: OptionValue) -> str:
    return ("ON" if value else "OFF") if isinstance(value, bool) else str(value)
