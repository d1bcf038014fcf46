"""docs/recipes/failover.md: the address moves to the spare, open connections stay where they are."""

from __future__ import annotations

from collections.abc import Callable

from servers import HAProxy, Server
from tests.integration.admin import Admin

from . import pages
from .conftest import TABLE, balances
from .projects import OURS, STOCK, Project

ACCOUNT = {"USER": "application", "PASSWORD": "application"}  # read_only does not bind our own
# The page's function, called each time the test says so.
LOOP = """
import sys
from bank.models import Account
from bank.writes import pay_in
from django.core.management.base import BaseCommand
from django.db.models import F

class Command(BaseCommand):
    def handle(self, **options):
        for line in sys.stdin:
            word, owner = line.split()
            try:
                if word == "once":
                    Account.objects.filter(owner=owner).update(balance=F("balance") + 1)
                else:
                    pay_in(owner)
            except Exception as error:
                self.stdout.write(f"{word} refused: {error.args[0]}")
            else:
                self.stdout.write(f"{word} done")
"""


def make_account(admin: Admin) -> None:
    for host in ("%", "localhost", "127.0.0.1"):
        admin.rows(f"CREATE USER IF NOT EXISTS 'application'@'{host}' IDENTIFIED BY 'application'")
        admin.rows(f"GRANT SELECT, INSERT, UPDATE, DELETE ON recycle.* TO 'application'@'{host}'")


def test_writes_follow_the_address_where_stocks_stay_with_the_old_primary(
    make_project: Callable[[str], Project],
    bank: Admin,
    server: Server,
    own_server: Callable[..., Server],
    haproxy: Callable[..., HAProxy],
) -> None:
    spare = own_server()
    address = haproxy(server, spare)
    bank.set_global("wait_timeout", 600)
    make_account(bank)
    project = make_project("failover")
    assert "bank/writes.py" in pages.files("failover")
    project.write("bank/management/commands/pay.py", LOOP)
    pay = ("python", "manage.py", "pay")
    settings = {"via": address, "database": ACCOUNT}
    with (
        Admin(spare) as there,
        project.start(OURS, *pay, **settings) as once,
        project.start(OURS, *pay, **settings) as page,
        project.start(STOCK, *pay, **settings) as stock,
    ):
        make_account(there)
        there.rows(TABLE)
        there.rows("INSERT INTO bank_account (owner, balance) VALUES ('ann', 0), ('bob', 0)")
        for program, line in ((once, "once ann"), (page, "page ann"), (stock, "once bob")):
            program.type(f"{line}\n")
            program.wait_for("done")
        bank.set_global("read_only", 1)
        address.disable("db1")  # new connections go to the spare, open ones stay
        for _ in range(3):
            once.type("once ann\n")
            page.type("page ann\n")
            stock.type("once bob\n")
        assert "refused" not in once.wait_for("once done", times=4)
        assert "refused" not in page.wait_for("page done", times=4)
        assert "done" not in stock.wait_for("once refused: 1290", times=3).partition("refused")[2]
        assert balances(there) == {"ann": 6, "bob": 0}
    bank.set_global("read_only", 0)
    assert balances(bank) == {"ann": 2, "bob": 1}
