"""Three Galera nodes on this machine, joined without a state transfer: all of them are new."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from servers import Server, ServersError
from servers.machine import free_port, give_to_server_user
from tests.integration.admin import Admin

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
# A node that says nothing for two seconds is no longer a member, instead of five.
IMPATIENT = "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT3S"


@contextmanager
def cluster() -> Iterator[list[Server]]:
    """Nodes that are synced; the test may kill them."""
    assert PROVIDER.exists(), f"no Galera on this machine ({PROVIDER}): install galera-4"
    ports = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        nodes: list[Server] = []
        for port in ports:
            node = _node(port, ports, first=not nodes)
            stack.callback(node.destroy)
            if nodes:
                _write_position(node, nodes[0])
            node.start()
            wait_for_state(node, "wsrep_local_state_comment", "Synced")
            nodes.append(node)
        yield nodes


def wait_for_state(node: Server, name: str, value: str, *, timeout: float = 20) -> None:
    """Return once the node's status variable has this value."""
    deadline = time.monotonic() + timeout
    while (state := _status(node)).get(name) != value:
        assert time.monotonic() < deadline, f"{name} is {state.get(name)} and not {value}"
        time.sleep(0.05)


def _status(node: Server) -> dict[str, str]:
    with Admin(node) as admin:
        return dict(admin.rows("SHOW GLOBAL STATUS LIKE 'wsrep\\_%'"))


def _node(port: int, ports: list[int], *, first: bool) -> Server:
    transfer = free_port()
    return Server(
        "mariadb",
        wsrep_on=True,
        wsrep_new_cluster=first,
        wsrep_provider=str(PROVIDER),
        wsrep_cluster_address="gcomm://" + ",".join(f"127.0.0.1:{other}" for other in ports),
        wsrep_provider_options=f"gmcast.listen_addr=tcp://127.0.0.1:{port};"
        f"ist.recv_addr=127.0.0.1:{transfer};{IMPATIENT}",
        wsrep_node_address=f"127.0.0.1:{port}",
        wsrep_sst_method="skip",
        binlog_format="ROW",
        innodb_autoinc_lock_mode=2,
    )


def _write_position(node: Server, donor: Server) -> None:
    """Let a new node begin where the cluster is: a transfer of all data would take ten seconds."""
    state = _status(donor)
    if node.running:
        raise ServersError(f"{node!r} is already running")
    (node.directory / "data" / "grastate.dat").write_text(
        "# GALERA saved state\n"
        "version: 2.1\n"
        f"uuid:    {state['wsrep_cluster_state_uuid']}\n"
        f"seqno:   {state['wsrep_last_committed']}\n"
        "safe_to_bootstrap: 0\n"
    )
    give_to_server_user(node.directory / "data")
