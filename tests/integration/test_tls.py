"""TLS: what is spared when a connection is opened, and that nothing is verified less for it."""

from __future__ import annotations

import gc
import os
import ssl
import subprocess
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from servers import Server
from servers.certificates import make_certificates

from .connections import OURS, STOCK, ConnectionFactory

#: How each driver says that it does not trust the server's certificate.
REFUSALS = {"mysqlclient": {2026}, "pymysql": {2003, 2013}}

#: What takes TLS off each server.
WITHOUT_TLS = {"mariadb": {"ssl": False}, "mysql": {"tls_version": ""}}


@pytest.fixture
def only_pymysql(driver: str) -> None:
    """mysqlclient builds its context out of reach (docs/checks.md says what to set)."""
    if driver != "pymysql":
        pytest.skip("about the contexts that PyMySQL builds in Python")


@pytest.fixture
def contexts_built(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLContext]:
    """The contexts that have been built since the test began; still built by Python itself."""
    built: list[ssl.SSLContext] = []
    build = ssl.create_default_context

    def note(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        built.append(build(*args, **kwargs))
        return built[-1]

    monkeypatch.setattr(ssl, "create_default_context", note)
    return built


def verified(ca: object, driver: str) -> dict[str, Any]:
    """OPTIONS for a server whose certificate is to be signed by `ca`."""
    if driver == "pymysql":
        return {"ssl_disabled": None, "ssl": {"ca": str(ca)}}
    return {"ssl": {"ca": str(ca)}, "ssl_mode": "VERIFY_CA"}


def cipher(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        return str(cursor.fetchone()[1])


def reopen(connection: Any) -> str:
    """Open a new connection as a recycle would. Returns the cipher in use."""
    connection.close()
    connection.ensure_connection()
    return cipher(connection)


def refusal(connection: Any) -> int:
    with pytest.raises(OperationalError) as caught:
        reopen(connection)
    return int(caught.value.args[0])


@pytest.mark.usefixtures("only_pymysql")
@pytest.mark.parametrize("options", ["none", "ca", "ssl_ca"])
def test_each_alias_builds_its_context_once(
    make_connection: ConnectionFactory,
    server: Server,
    contexts_built: list[ssl.SSLContext],
    engine: str,
    options: str,
) -> None:
    given = {
        "none": {"ssl_disabled": False},
        "ca": verified(server.ca, "pymysql"),
        "ssl_ca": {"ssl_disabled": None, "ssl_ca": str(server.ca), "ssl_verify_identity": True},
    }[options]
    connection = make_connection(engine, options=given)
    for _ in range(3):
        assert reopen(connection)
    assert len(contexts_built) == (1 if engine == OURS else 3)


@pytest.mark.usefixtures("only_pymysql")
def test_threads_share_the_context_of_their_alias(
    make_connection: ConnectionFactory, contexts_built: list[ssl.SSLContext]
) -> None:
    connection = make_connection(transport="tls")
    reopen(connection)
    found: list[str] = []

    def use() -> None:
        own = connection.copy()
        found.append(reopen(own))
        own.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(found)
    assert len(contexts_built) == 1


@pytest.mark.usefixtures("only_pymysql")
def test_contexts_of_many_aliases_do_not_pile_up(
    make_connection: ConnectionFactory, server: Server
) -> None:
    contexts = []
    made = make_connection(options=verified(server.ca, "pymysql"))
    for number in range(40):
        connection = made.copy(alias=f"tenant_{number}")
        reopen(connection)
        contexts.append(weakref.ref(connection.connection.ctx))
        connection.close()
        del connection
    gc.collect()
    assert 1 < sum(context() is not None for context in contexts) <= 32
    assert contexts[-1]() is not None


@pytest.mark.usefixtures("only_pymysql")
def test_shared_context_is_what_the_driver_builds(
    make_connection: ConnectionFactory, server: Server
) -> None:
    options = verified(server.ca, "pymysql")
    options["ssl"]["cipher"] = "ECDHE+AESGCM"
    ours, stock = make_connection(options=options), make_connection(STOCK, options=options)
    reopen(ours)
    for connection in (ours, stock):
        reopen(connection)
    kept, built = ours.connection.ctx, stock.connection.ctx
    for name in ("verify_mode", "check_hostname", "verify_flags", "options", "minimum_version"):
        assert getattr(kept, name) == getattr(built, name), name
    assert kept.get_ca_certs() == built.get_ca_certs()
    assert [entry["name"] for entry in kept.get_ciphers()] == [
        entry["name"] for entry in built.get_ciphers()
    ]


def test_server_of_another_authority_is_refused_at_once_and_when_recycling(
    own_server: Callable[..., Server],
    make_connection: ConnectionFactory,
    driver: str,
    engine: str,
) -> None:
    server = own_server()
    connection = make_connection(engine, server=server, options=verified(server.ca, driver))
    assert reopen(connection)
    assert reopen(connection)
    # Another server answers at the same address.
    server.certificates = make_certificates(server.directory / "other", server.host)
    give_to_server(server, "other")
    server.restart()
    assert refusal(connection) in REFUSALS[driver]
    fresh = make_connection(engine, server=server, options=verified(server.ca, driver))
    assert refusal(fresh) in REFUSALS[driver]


@pytest.mark.usefixtures("only_pymysql")
def test_name_in_the_certificate_is_still_compared(
    make_connection: ConnectionFactory, server: Server, engine: str
) -> None:
    connection = make_connection(engine, options=verified(server.ca, "pymysql"))
    assert reopen(connection)
    assert reopen(connection)
    # Another name for this machine, which is not in the certificate.
    connection.settings_dict["HOST"] = "0.0.0.0"
    assert refusal(connection) in REFUSALS["pymysql"]


@pytest.fixture
def authority(server: Server, tmp_path: Path) -> Authority:
    return Authority(tmp_path, server.ca.read_bytes())


class Authority:
    """A file that holds the server's authority, or another one of the same length."""

    def __init__(self, folder: Path, right: bytes) -> None:
        self.path = folder / "ca.pem"
        wrong = make_certificates(folder / "other", "127.0.0.1").ca.read_bytes()
        length = max(len(right), len(wrong))
        # Blank lines behind a certificate mean nothing.
        self._right, self._wrong = (one.ljust(length, b"\n") for one in (right, wrong))
        self.path.write_bytes(self._right)

    def be(self, right: bool) -> None:
        """Overwrite the file in place and give it its old times again, as rsync does."""
        times = self.path.stat()
        self.path.write_bytes(self._right if right else self._wrong)
        os.utime(self.path, ns=(times.st_atime_ns, times.st_mtime_ns))


def by_hash(authority: Authority, folder: Path) -> Path:
    """A folder of authorities as OpenSSL reads it, with a link to the file."""
    (hashed := folder / "hashed").mkdir()
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(authority.path)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (hashed / f"{name}.0").symlink_to(authority.path)
    return hashed


#: How the authority is named; both authorities have the same subject, and so the same hash.
NAMINGS: dict[str, Callable[[Authority, Path], dict[str, Any]]] = {
    "ssl_ca": lambda ca, _: {"ssl_ca": str(ca.path), "ssl_verify_cert": True},
    "dict": lambda ca, _: {"ssl": {"ca": str(ca.path)}},
    "bytes": lambda ca, _: {"ssl": {"ca": bytes(ca.path)}},
    "folder": lambda ca, tmp: {"ssl": {"capath": str(by_hash(ca, tmp))}},
    "option file": lambda ca, tmp: option_file(tmp, f"ssl-ca = {ca.path}"),
    "option file with a colon": lambda ca, tmp: option_file(tmp, f"ssl-ca: {ca.path}"),
}


def option_file(folder: Path, line: str) -> dict[str, Any]:
    file = folder / "my.cnf"
    file.write_text(f"[client]\n{line}\n")
    return {"read_default_file": str(file)}


@pytest.mark.usefixtures("only_pymysql")
@pytest.mark.parametrize("naming", NAMINGS)
def test_authority_that_is_replaced_on_disk_counts_at_the_next_connection(
    make_connection: ConnectionFactory,
    authority: Authority,
    tmp_path: Path,
    engine: str,
    naming: str,
) -> None:
    options = {"ssl_disabled": None, **NAMINGS[naming](authority, tmp_path)}
    connection = make_connection(engine, options=options)
    assert reopen(connection)
    authority.be(right=False)
    assert refusal(connection) in REFUSALS["pymysql"]
    authority.be(right=True)
    assert reopen(connection)


@pytest.mark.usefixtures("only_pymysql")
def test_verification_that_is_named_otherwise_is_another(
    make_connection: ConnectionFactory, authority: Authority, engine: str
) -> None:
    authority.be(right=False)
    connection = make_connection(engine, options=verified(authority.path, "pymysql"))
    verification = connection.settings_dict["OPTIONS"]["ssl"]
    verification.update(verify_mode=False, check_hostname=False)
    assert reopen(connection)
    # Equal to False, and yet the driver verifies.
    verification["verify_mode"] = 0
    assert refusal(connection) in REFUSALS["pymysql"]


@pytest.mark.usefixtures("only_pymysql")
def test_settings_that_are_changed_in_place_count(
    make_connection: ConnectionFactory,
    server: Server,
    tmp_path: Path,
    engine: str,
) -> None:
    connection = make_connection(engine, options=verified(server.ca, "pymysql"))
    assert reopen(connection)
    other = make_certificates(tmp_path / "other", "127.0.0.1")
    connection.settings_dict["OPTIONS"]["ssl"]["ca"] = str(other.ca)
    assert refusal(connection) in REFUSALS["pymysql"]
    connection.settings_dict["OPTIONS"]["ssl"]["ca"] = str(server.ca)
    assert reopen(connection)


@pytest.mark.usefixtures("only_pymysql")
def test_context_of_the_users_own_is_used_as_it_is(
    make_connection: ConnectionFactory, server: Server
) -> None:
    own = ssl.create_default_context(cafile=str(server.ca))
    own.verify_flags &= ~ssl.VERIFY_X509_STRICT
    connection = make_connection(options={"ssl_disabled": None, "ssl": own})
    for _ in range(2):
        assert reopen(connection)
        assert connection.connection.ctx is own


@pytest.mark.usefixtures("only_pymysql")
def test_server_that_takes_tls_away_is_met_as_by_the_driver_alone(
    own_server: Callable[..., Server],
    make_connection: ConnectionFactory,
    vendor: str,
    engine: str,
) -> None:
    server = own_server()
    # With nothing said PyMySQL takes TLS where there is some.
    content = make_connection(engine, server=server, options={"ssl_disabled": False})
    insisting = make_connection(engine, server=server, options=verified(server.ca, "pymysql"))
    for connection in (content, insisting, content, insisting):
        assert reopen(connection)
    server.options.update(WITHOUT_TLS[vendor])
    server.restart()
    for _ in range(2):
        assert not reopen(content)
        assert refusal(insisting) == 2026
    for name in WITHOUT_TLS[vendor]:
        del server.options[name]
    server.restart()
    assert reopen(content)
    assert reopen(insisting)


@pytest.mark.usefixtures("only_pymysql")
def test_threads_that_find_tls_switched_off_go_on_without_it(
    own_server: Callable[..., Server], make_connection: ConnectionFactory, vendor: str
) -> None:
    server = own_server()
    content = make_connection(server=server, options={"ssl_disabled": False})
    assert reopen(content)
    server.options.update(WITHOUT_TLS[vendor])
    server.restart()
    ready, ciphers = threading.Barrier(8), []

    def use() -> None:
        own = content.copy()
        ready.wait(10)
        ciphers.append(reopen(own))
        own.close()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ciphers == [""] * 8


def give_to_server(server: Server, folder: str) -> None:
    from servers.machine import give_to_server_user

    give_to_server_user(server.directory / folder)
