"""64 threads over 8 connections while connections are killed: see soak.py."""

from __future__ import annotations

import random

import pytest

from servers import Server
from tests.integration.admin import Admin
from tests.integration.connections import ConnectionFactory

from .soak import POOL, PoolSoak, clean_up


@pytest.mark.timeout(3600)
def test_each_of_64_threads_gets_its_own_answers_from_8_connections(
    make_connection: ConnectionFactory, server: Server, admin: Admin, requests: int
) -> None:
    seed = random.randrange(10**6)
    print(f"python -m tests.pool.soak --seed {seed}")  # noqa: T201
    try:
        alias = make_connection(options={"pool": POOL}).alias
        PoolSoak(alias, server, seed).run(max(6, requests / 300))
    finally:
        clean_up(admin)
