"""docker-compose.yml says what the documentation says of it, where no Docker runs as well."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from servers.docker import COMPOSE_FILE, SERVICES

WANTED = {"mysql-8.4", "mysql-9", "mariadb-10.11", "mariadb-11.8"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    return content


def test_every_supported_server_is_offered(services: dict[str, Any]) -> None:
    assert set(services) == WANTED
    for name, service in services.items():
        assert service["image"] == name.replace("-", ":")


def test_ports_are_open_to_this_machine_alone_and_differ(services: dict[str, Any]) -> None:
    seen: set[str] = set()
    for service in services.values():
        (published,) = service["ports"]
        match = re.fullmatch(r"127\.0\.0\.1:\$\{([A-Z0-9_]+):-(\d+)\}:3306", published)
        assert match is not None, published
        seen.update(match.groups())
    assert len(seen) == 2 * len(services)


def test_every_server_has_a_health_check_and_a_short_wait_timeout(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["healthcheck"]["interval"] == "2s"
        assert service["command"] == ["--wait-timeout=10"]


def test_accounts_are_those_that_are_used(services: dict[str, Any]) -> None:
    for service in services.values():
        assert {
            service["environment"][f"MYSQL_{key}"] for key in ("USER", "PASSWORD", "DATABASE")
        } == {"recycle"}


def test_servers_that_are_started_by_docker_are_in_the_file(services: dict[str, Any]) -> None:
    for service, variable in SERVICES.values():
        assert f"${{{variable}:-" in services[service]["ports"][0]
