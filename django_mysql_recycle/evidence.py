"""What an error proves about the connection it came from, once the connection has been looked at.

errors.py says what a number proves. A number alone is no proof: an error packet may have any, for
a trigger or a procedure can SIGNAL it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.utils import Error

from . import liveness, questions
from .drivers import Origin
from .errors import Proof, classify, code_of, is_of_the_server

if TYPE_CHECKING:
    from .connection import PhysicalConnection
    from .drivers import Driver

__all__ = ["database_error", "proof_of"]

#: Seconds after an error packet in which a server that hangs up after it is seen to do so: the end
#: of the stream comes a moment later through TLS or a proxy.
HANG_UP = 0.05


def database_error(error: BaseException, driver: Driver) -> BaseException | None:
    """The driver's error, also where an instrumentation has raised its own because of it."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, (driver.error, Error)):
        link = link.__cause__ or link.__context__
    return link


def proof_of(error: BaseException, connection: PhysicalConnection, *, asking: bool) -> Proof:
    """What a database error proves. `asking`: it came of a question of the backend's own.

    An error packet is the answer to the statement, which has run as far as that, and the connection
    may be sound.
    """
    proof = classify(error, mariadb=connection.mariadb)
    origin = connection.driver.origin(error)
    if connection.driver_let_go:
        # Whatever the number says, the connection is lost.
        unsent = origin is Origin.SENDING or (
            origin is Origin.UNKNOWN and not is_of_the_server(error)
        )
        if not proof.is_loss or (proof is Proof.NEVER_RAN and not unsent):
            return Proof.MAY_HAVE_RUN
        return proof
    if not proof.is_loss:
        return proof
    if origin is Origin.SERVER and not is_of_the_server(error):
        return Proof.ALIVE
    if origin in (Origin.SENDING, Origin.CLIENT) or connection.descriptor is None:
        never = proof is Proof.NEVER_RAN and origin is not Origin.SENDING
        return Proof.MAY_HAVE_RUN if never else proof
    # An error packet, unless this client library has a number for what it cannot read.
    hung_up = liveness.hangs_up(connection.descriptor, HANG_UP)
    if hung_up is False:
        if origin is Origin.SERVER or (proof is not Proof.PROTOCOL and code_of(error)):
            return Proof.ALIVE
        # 2027 is also what Connector/C makes of a packet with a number of its own range.
        return Proof.ALIVE if not asking and questions.is_in_step(connection) else Proof.PROTOCOL
    timed_out = hung_up and origin is Origin.UNKNOWN and code_of(error) == 4031
    return Proof.MAY_HAVE_RUN if proof is Proof.NEVER_RAN and not timed_out else proof
