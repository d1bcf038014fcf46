"""A quarter of a minute of trouble; `python -m tests.soak` goes on for as long as one likes."""

from __future__ import annotations

import random

import pytest

from servers import Server

from ..soak import MAX_AGE, Soak, clean_up
from .admin import Admin
from .connections import ConnectionFactory

SECONDS = 15


@pytest.mark.timeout(120)
def test_money_neither_comes_nor_goes_and_no_worker_has_to_be_restarted(
    make_connection: ConnectionFactory, server: Server, admin: Admin
) -> None:
    seed = random.randrange(10**6)
    print(f"python -m tests.soak --seed {seed}")  # noqa: T201
    try:
        Soak(make_connection(CONN_MAX_AGE=MAX_AGE).alias, server, seed).run(SECONDS)
    finally:
        admin.rows("SET GLOBAL wait_timeout = 28800")  # by the soak, behind the back of `admin`
        clean_up(admin)
