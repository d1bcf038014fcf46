"""Whether a statement that has ended with an error has run: `may_have_run` for the application.

It is noted on the driver's exception where the backend sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.db.utils import Error

from .errors import Proof, SessionStateLost, code_of
from .session_state import Statement
from .session_state.effects import changes_rows_only

if TYPE_CHECKING:
    from .connection import PhysicalConnection

__all__ = ["may_have_run", "not_sent", "note_commit", "note_not_sent", "note_ran", "note_statement"]

E = TypeVar("E", bound=Error)

_NAME = "_recycle_what_ran"

#: Refusals of a single statement that come before its own commit. What is not here may come out
#: of the commit, such as 3100, 3101 and 1180, after which other members may have the row.
_BEFORE_COMMIT = frozenset(
    {
        *(1047, 1290, 1792, 1836, 1874),  # the node refuses it
        *(1020, 1205, 1206),  # conflicts of locks: the server has rolled it back
        *(1048, 1062, 1216, 1217, 1364, 1451, 1452, 1557, 1586, 3819, 4025),  # constraints
        *(1044, 1045, 1049, 1142, 1143, 1227, 1370),  # privileges
        *(1054, 1064, 1109, 1146, 1149, 1305),  # the text names what does not exist
        *(1264, 1265, 1292, 1366, 1406, 1411, 1525, 1690),  # values
    }
)

#: ER_LOCK_DEADLOCK. On Galera it also comes out of a commit, and the greeting of MariaDB does not
#: show whether a server belongs to a cluster.
_DEADLOCK = 1213


def may_have_run(error: BaseException) -> bool | None:
    """Whether the statement or the COMMIT that has raised `error` has run.

    False: it is proved that nothing of it is in the database. True: it has run, and the error came
    later, for example while its rows were read. None: it is not known. None is also the answer
    for an error that does not come from a connection of this backend.

    `error`: an exception of ``django.db``, or one that was raised from it. The answer is about one
    statement. If the statement was part of a transaction, False does not say that the statements
    before it were rolled back. It counts on transactional tables; a statement that fails on a
    MyISAM table may have changed some rows. Raises nothing.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        noted = link.__dict__.get(_NAME, ...)
        if noted is not ...:
            return noted  # type: ignore[no-any-return]
        following = link.__cause__
        if following is None and isinstance(link, SessionStateLost):
            return False  # it was raised instead of sending the statement
        if following is None and isinstance(link, Error):
            # What Django's cursor makes of some errors of the driver is a copy without a cause.
            context = link.__context__
            following = context if context is not None and context.args == link.args else None
        link = following
    return None


def note_statement(
    error: BaseException,
    connection: PhysicalConnection,
    proof: Proof,
    statement: Statement,
    sql: object,
    *,
    many: bool,
    by_driver: bool,
    in_use: bool,
    in_transaction: bool,
) -> None:
    """A statement has ended with `error`, which proves `proof`.

    `many`: the driver makes several statements of it. `by_driver`: the driver has raised the error,
    and nothing around it. `in_use`: the connection was still that of the wrapper. Outside of a
    transaction the statement's own commit may have failed.
    """
    if not isinstance(error, (connection.driver.error, Error)):
        return
    ran: bool | None = None
    if by_driver and not many and statement.single and not statement.calls:
        code = code_of(error)
        if proof.is_loss:
            ran = False if proof is Proof.NEVER_RAN and in_use else None
        elif code is not None and (
            in_transaction
            or code in _BEFORE_COMMIT
            or (code == _DEADLOCK and not connection.mariadb)
        ):
            ran = False if changes_rows_only(sql) else None
    error.__dict__[_NAME] = ran


def note_commit(error: BaseException, proof: Proof) -> None:
    """COMMIT, or switching autocommit on, has ended with `error`.

    A read-only node refuses COMMIT and rolls back. Any other error packet may come after other
    members of a cluster have applied the transaction.
    """
    refused = proof is Proof.READ_ONLY or proof is Proof.NEVER_RAN
    error.__dict__[_NAME] = False if refused else None


def note_ran(error: BaseException) -> None:
    """The statement had run before `error` was raised."""
    error.__dict__[_NAME] = True


def note_not_sent(error: BaseException) -> None:
    """`error` is raised instead of sending the statement."""
    error.__dict__[_NAME] = False


def not_sent(error: E) -> E:
    """The same error, noted as raised instead of sending the statement."""
    note_not_sent(error)
    return error
