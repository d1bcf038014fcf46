from __future__ import annotations

from pathlib import Path

import pytest

from servers import BadSetting, NotAvailable, check_vendor, from_environment, machine


def test_no_server_is_named_by_an_empty_environment() -> None:
    assert from_environment({"MYSQL_HOST": "", "HOME": "/"}) is None


def test_named_server_is_described_and_its_settings_go_round() -> None:
    settings = {
        "MYSQL_HOST": "db.internal",
        "MYSQL_PORT": "3307",
        "MYSQL_USER": "u",
        "MYSQL_PASSWORD": "secret",
        "MYSQL_DATABASE": "d",
    }
    server = from_environment(settings)
    assert server is not None
    assert server.settings == settings
    assert "secret" not in repr(server)


def test_socket_alone_names_a_server() -> None:
    server = from_environment({"MYSQL_SOCKET": "/run/x.sock"})
    assert server is not None
    assert (server.socket, server.user, server.database) == ("/run/x.sock", "root", "recycle")
    # Programs that are handed the settings must not be sent to 'localhost' instead.
    assert "MYSQL_HOST" not in server.settings


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "3306.0", "³"])
def test_bad_port_is_refused_by_name(port: str) -> None:
    with pytest.raises(BadSetting, match="MYSQL_PORT: expected a number from 1 to 65535, got"):
        from_environment({"MYSQL_HOST": "h", "MYSQL_PORT": port})


def test_settings_without_a_host_are_refused() -> None:
    with pytest.raises(BadSetting, match="MYSQL_PORT, MYSQL_USER: expected together with"):
        from_environment({"MYSQL_PORT": "3306", "MYSQL_USER": "u"})


def test_unknown_vendor_is_refused() -> None:
    with pytest.raises(BadSetting, match="expected one of mariadb, mysql, got 'oracle'"):
        check_vendor("oracle")


def test_account_without_a_home_reads_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(machine, "is_root", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NotAvailable, match=r"cannot be made .* set XDG_CACHE_HOME"):
        machine.cache_directory("data")
