"""The command's findings, table and JSON, from facts that no server had to give."""

from __future__ import annotations

import io
import json
import os
import re
import select
import socket
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import jsonschema
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import OutputWrapper
from django.core.management.color import make_style, no_style

import django_mysql_recycle
from django_mysql_recycle.checks.finding import Finding
from django_mysql_recycle.diagnosis import findings
from django_mysql_recycle.diagnosis import report as diagnosis_report
from django_mysql_recycle.diagnosis.explanation import explained, ids
from django_mysql_recycle.diagnosis.findings import finding
from django_mysql_recycle.diagnosis.kinds import CONNECT_HINTS, KINDS, OTHER_HINT
from django_mysql_recycle.diagnosis.path import (
    Cost,
    DriverFacts,
    KernelOption,
    TlsFacts,
    Transport,
    kernel_options,
    missing_guards,
    proxy_evidence,
    transport_of,
    verified_by_library,
)
from django_mysql_recycle.diagnosis.proof import Control, Proof
from django_mysql_recycle.diagnosis.report import (
    AliasReport,
    Environment,
    as_dict,
    idle_limit,
    max_age_limit,
)
from django_mysql_recycle.diagnosis.schema import schema
from django_mysql_recycle.diagnosis.text import (
    alias_text,
    environment_text,
    ignored_text,
    summary,
    unproved,
    verdict_text,
)
from django_mysql_recycle.management.commands.mysql_recycle import _Progress
from django_mysql_recycle.options import MaxAge, Options, PoolOptions, max_age_of
from django_mysql_recycle.server_facts import ServerFacts

from .rows import each

DOCUMENT = Path(__file__).parents[2] / "docs" / "command.md"

SERVER = ServerFacts(
    vendor="mariadb",
    version="10.11.19-MariaDB",
    version_comment="Debian 12",
    connection_id=7,
    hostname="db1",
    port=3306,
    client_port=40000,
    wait_timeout=600,
    interactive_timeout=28800,
    idle_transaction_timeout=0,
    idle_readonly_transaction_timeout=None,
    idle_write_transaction_timeout=20,
    wait_timeout_global=600,
    interactive_timeout_global=28800,
    max_connections=151,
)
PROOF = Proof(
    outcome="proven",
    explanation="the server closed connection 7, and the next statement ran on connection 8",
    wait_timeout=2,
    waited=2.01,
    closed=True,
    connection_id_before=7,
    connection_id_after=8,
    reason="closed",
    statement_ms=0.05,
    next_ms=1.25,
    control=Control("django.db.backends.mysql", "OperationalError (2006, 'gone')", 2006),
)
KERNEL = (
    KernelOption("SO_KEEPALIVE", 1, 1),
    KernelOption("TCP_KEEPCNT", 3, 3),
    KernelOption("TCP_KEEPIDLE", 60, 60),
    KernelOption("TCP_KEEPINTVL", 10, 10),
    KernelOption("TCP_USER_TIMEOUT", 30000, 30000),
)
PLAIN = TlsFacts("", "", "nothing")
TCP = Transport("tcp", "127.0.0.1:3306", 40000)
REPORT = AliasReport(
    alias="default",
    engine="django_mysql_recycle",
    guarded=True,
    reachable=True,
    conn_max_age=600,
    conn_health_checks=False,
    recycle={},
    server=SERVER,
    transport=TCP,
    tls=PLAIN,
    max_age=max_age_limit(max_age_of("default", {"CONN_MAX_AGE": 600}), Options()),
    idle_limit=idle_limit(600, Options()),
    kernel=KERNEL,
    cost=Cost(1.25, 0.05, 0.5),
)
ABOUT = Environment(
    "0.1.0",
    "3.12.1",
    "6.1.3",
    "Linux",
    DriverFacts("mysqlclient", "2.3.1", "MariaDB Connector/C 3.3.20"),
    (),
)


def kinds(found: Any) -> list[str]:
    return [one.id.partition(".")[2] for one in found]


def text(report: AliasReport, width: int = 100) -> str:
    return alias_text(report, no_style(), width)


# ##### Limits and their reasons #####


@each(
    [
        (28800, None, 28770, "wait_timeout 28800 s less 30 s"),
        (1, None, 0.5, "wait_timeout 1 s less 0.5 s"),
        (600, 300, 300, "OPTIONS['recycle']['idle_limit']"),
        (600, 900, 570, "wait_timeout 600 s less 30 s"),
        (None, 300, 300, "OPTIONS['recycle']['idle_limit']"),
        (
            None,
            None,
            None,
            "the server does not report its wait_timeout; the liveness check is left",
        ),
    ]
)
def test_idle_limit_has_its_reason(
    wait_timeout: int | None, own: float | None, seconds: float | None, reason: str
) -> None:
    limit = idle_limit(wait_timeout, Options(idle_limit=own))
    assert (limit.seconds, limit.reason) == (seconds, reason)


@each(
    [
        (0, 0.05, (None, None), "CONN_MAX_AGE = 0: closed at the end of each request"),
        (None, 0.05, (None, None), "CONN_MAX_AGE = None: no limit on age"),
        (600, 0.05, (600, 570), "shortened by up to 5% for each connection (jitter)"),
        (600, None, (600, 600), "CONN_MAX_AGE"),
    ]
)
def test_max_age_has_its_reason(
    given: int | None,
    jitter: float | None,
    received: tuple[float | None, float | None],
    reason: str,
) -> None:
    limit = max_age_limit(max_age_of("default", {"CONN_MAX_AGE": given}), Options(jitter=jitter))
    assert (limit.seconds, limit.shortest) == received
    assert limit.reason.endswith(reason)


@each([None, 0.0, 600.0])
def test_max_age_names_the_setting_that_it_comes_from(seconds: float | None) -> None:
    limit = max_age_limit(MaxAge(seconds, seconds or None, "another setting"), Options())
    assert "another setting" in limit.reason and "CONN_MAX_AGE" not in limit.reason


def test_stock_backend_has_its_own_limits() -> None:
    assert (
        "both ends of a request"
        in max_age_limit(max_age_of("a", {"CONN_MAX_AGE": 60}), None).reason
    )
    assert idle_limit(600, None).seconds is None


# ##### Findings #####


@each(
    [
        ({}, {}, []),
        ({"refusals": ((1226, "no more questions"),)}, {}, ["refused"]),
        ({"wait_timeout": None}, {}, ["wait_timeout_unknown"]),
        ({"wait_timeout": 60}, {}, ["session_differs"]),
    ]
)
def test_server_gives_findings(
    changes: dict[str, Any], settings: dict[str, Any], found: list[str]
) -> None:
    facts = replace(SERVER, **changes)
    assert kinds(findings.of_server(facts, settings, Options())) == found


def test_unknown_wait_timeout_is_no_matter_with_a_limit_of_ones_own_or_on_the_stock_backend() -> (
    None
):
    facts = replace(SERVER, wait_timeout=None)
    assert kinds(findings.of_server(facts, {}, Options(idle_limit=50))) == []
    assert kinds(findings.of_server(facts, {}, None)) == []


@each(
    [
        ({"wait_timeout": 28800}, {}, "CLIENT_INTERACTIVE"),
        ({"wait_timeout": 5}, {"OPTIONS": {"init_command": "SET ..."}}, "OPTIONS['init_command']"),
        ({"wait_timeout": 5, "has_init_connect": True}, {}, "the server's init_connect"),
        ({"wait_timeout": 5}, {}, "a connection_created receiver"),
    ]
)
def test_session_that_differs_names_what_may_have_set_it(
    changes: dict[str, Any], settings: dict[str, Any], cause: str
) -> None:
    (found,) = findings.of_server(replace(SERVER, **changes), settings, Options())
    assert cause in found.message


@each(
    [
        ({}, []),
        ({"kernel": (KernelOption("TCP_KEEPIDLE", 60, 7200),)}, ["kernel_differs"]),
        ({"kernel": (KernelOption("SO_KEEPALIVE", 1, 8),)}, []),  # macOS
        ({"kernel": (KernelOption("TCP_KEEPIDLE", None, 7200),)}, []),
        ({"evidence": ("the server sees another port",)}, ["proxy"]),
        ({"evidence": ("another port",), "options": Options(idle_limit=60)}, []),
        ({"tls": TlsFacts("TLSv1.3", "AES", "nothing")}, ["tls_unverified"]),
        ({"tls": TlsFacts("TLSv1.3", "AES", "unknown")}, []),
        (
            {
                "tls": TlsFacts("TLSv1.3", "AES", "nothing"),
                "transport": Transport("socket", "/s", None),
            },
            [],
        ),
        (
            {"tls": TlsFacts("TLSv1.3", "AES", "certificate"), "cost": Cost(32, 0.05, 0.5)},
            ["tls_connect_cost"],
        ),
        # A server far away: twenty times the round trip, and no fault of the certificates.
        ({"tls": TlsFacts("TLSv1.3", "AES", "certificate"), "cost": Cost(130, 20, 0.5)}, []),
        ({"cost": Cost(300, 0.05, 0.5)}, []),
    ]
)
def test_connection_gives_findings(changes: dict[str, Any], found: list[str]) -> None:
    facts: dict[str, Any] = {
        "transport": TCP,
        "tls": PLAIN,
        "kernel": KERNEL,
        "cost": Cost(1.0, 0.05, 0.5),
        "evidence": (),
        "options": Options(),
        **changes,
    }
    assert kinds(findings.of_connection(**facts)) == found


class _Greeted:
    """What a driver's connection knows of the greeting."""

    def __init__(self, version: str, thread: int) -> None:
        self.get_server_info = lambda: version
        self.thread_id = lambda: thread


@each(
    [
        (_Greeted("5.5.5-10.11.19-MariaDB", 7), TCP, []),
        (_Greeted("10.11.19-MariaDB", 7), replace(TCP, local_port=40001), ["port 40001"]),
        (_Greeted("10.11.19-MariaDB", 99), TCP, ["connection 99"]),
        (_Greeted("5.5.30 (ProxySQL)", 7), TCP, ["(ProxySQL)"]),
        (_Greeted("10.11.19-MariaDB", 7), Transport("socket", "/s", None), ["unix socket"]),
    ]
)
def test_proxy_betrays_itself(greeted: Any, transport: Transport, evidence: list[str]) -> None:
    found = proxy_evidence(greeted, transport, SERVER)
    assert len(found) == len(evidence)
    assert all(part in whole for part, whole in zip(evidence, found, strict=True))


@each(
    [
        (
            {"ssl_mode": "VERIFY_IDENTITY"},
            "MariaDB Connector/C 3.3.20",
            "certificate and host name",
        ),
        ({"ssl_mode": "VERIFY_CA"}, "libmysqlclient 9.4.0", "certificate"),
        ({"ssl_mode": "REQUIRED"}, "MariaDB Connector/C 3.3.20", "nothing"),
        ({"ssl_mode": "REQUIRED"}, "libmysqlclient 9.4.0", "nothing"),
        ({"ssl": {"ca": "f"}, "ssl_mode": "REQUIRED"}, "MariaDB Connector/C 3.3.20", "certificate"),
        ({"ssl": {"ca": "f"}, "ssl_mode": "REQUIRED"}, "libmysqlclient 9.4.0", "nothing"),
        ({"ssl": {"ca": "f"}}, "libmysqlclient 9.4.0", "certificate"),
        ({}, "MariaDB Connector/C 3.3.20", "nothing"),
        ({}, "MariaDB Connector/C 3.4.1", "unknown"),
        ({"read_default_file": "f"}, "MariaDB Connector/C 3.3.20", "unknown"),
    ]
)
def test_what_mysqlclient_verifies_is_known_by_its_settings(
    options: dict[str, Any], library: str, verified: str
) -> None:
    assert verified_by_library(options, library) == verified


@each(
    [
        ({"PASSWORD": "s3cret"}, "with ******** in it"),
        ({"OPTIONS": {"passwd": "s3cret"}}, "with ******** in it"),
        ({"PASSWORD": b"s3cret"}, "with ******** in it"),
        # Masking each letter of a short one would show it.
        ({"PASSWORD": "s"}, "with s3cret in it"),
        ({}, "with s3cret in it"),
    ]
)
def test_password_is_masked(settings: dict[str, Any], shown: str) -> None:
    assert findings.without_password("with s3cret in it", settings) == shown


def test_what_a_system_lacks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "POLLRDHUP")
    monkeypatch.delattr(os, "register_at_fork")
    assert missing_guards() == ("POLLRDHUP", "fork")


def test_environment_goes_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose() -> None:
        raise ImproperlyConfigured

    monkeypatch.setattr(diagnosis_report, "choose", choose)
    assert diagnosis_report.environment().driver is None


def test_connection_that_is_not_open_has_no_facts() -> None:
    assert transport_of(None) == Transport("", "", None)
    assert kernel_options(None, {}) == ()


def test_address_of_the_newer_protocol_is_in_brackets() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("::1", port)) as client:
            assert transport_of(client.fileno()).address == f"[::1]:{port}"


# ##### The command's progress #####


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def progress_on(stream: Stream) -> str:
    progress = _Progress(OutputWrapper(stream), "default")
    for waited in (0.0, 0.1, 0.9, 1.0, 2.05):
        progress.closing(waited, 4)
    progress.clear()
    progress.clear()
    return stream.getvalue()


def test_progress_rewrites_one_line_of_a_terminal_and_clears_it() -> None:
    received = progress_on(Stream(terminal=True))
    *lines, blank, empty = received.split("\r")
    assert [line.strip()[-24:] for line in lines[1:]] == [
        "0 s [                    ]"[-24:],
        "0 s [                    ]"[-24:],
        "1 s [####                ]"[-24:],
        "1 s [#####               ]"[-24:],
        "2 s [##########          ]"[-24:],
    ]
    assert (set(blank), empty) == ({" "}, "")
    assert "\n" not in received


def test_progress_writes_a_line_for_each_second_to_a_pipe() -> None:
    assert progress_on(Stream(terminal=False)).splitlines() == [
        "default: waiting for the server to close the connection, 0 s",
        "default: waiting for the server to close the connection, 1 s",
        "default: waiting for the server to close the connection, 2 s",
    ]


# ##### The table #####


def test_table_is_aligned_and_fits() -> None:
    for width in (80, 100):
        received = text(
            replace(REPORT, findings=(finding("proxy", "There is " + "x " * 99),)), width
        )
        assert max(map(len, received.splitlines())) <= width
        for line in received.splitlines()[1:]:
            assert re.match(r"  (\S.{19}|\s{20})\S", line), line


def test_table_shows_what_counts() -> None:
    received = text(REPORT)
    for row in (
        "default (django_mysql_recycle): ok\n",
        "  server              MariaDB 10.11.19-MariaDB Debian 12, db1:3306\n",
        "  transport           TCP 127.0.0.1:3306\n",
        "  wait_timeout        600 s in the session, 600 s globally\n",
        "  idle transactions   all off, read-only unknown, writing 20 s\n",
        "  max age             570 to 600 s (CONN_MAX_AGE, ",
        "  idle limit          570 s (wait_timeout 600 s less 30 s)\n",
        "  keepalive           after 60 s, every 10 s, 3 times (kernel)\n",
        "  network timeout     30 s (kernel)\n",
        "  ping                0.050 ms, a round trip\n",
        "  liveness check      0.5 us, no round trip (a ping costs 100 times that)",
    ):
        assert row in received


def test_what_is_missing_is_said_or_left_out() -> None:
    bare = AliasReport("a", "django_mysql_recycle", True, False, None, False, None)
    assert text(bare) == "a (django_mysql_recycle, not connected): ok"
    lost = replace(bare, reachable=True)
    assert text(lost) == (
        "a (django_mysql_recycle): ok\n  CONN_MAX_AGE        None\n  CONN_HEALTH_CHECKS  False"
    )
    stranger = replace(REPORT, guarded=False, findings=(Finding("x.E1", "error", "Oh.", ""),))
    assert "liveness check" not in text(stranger)
    assert text(stranger).startswith(
        "default (django_mysql_recycle): 1 error\n  error               Oh. (x.E1)\n  server "
    )
    unix = replace(REPORT, transport=Transport("socket", "/run/s", None), kernel=())
    assert "  keepalive           none on a unix socket\n" in text(unix)
    pool = asdict(PoolOptions(max_size=4))
    assert "  pool                4 connections at most in this process, 0 kept" in text(
        replace(REPORT, pool=pool)
    )
    windows = replace(REPORT, transport=Transport("", "", None), kernel=(), cost=Cost(1, 1, None))
    assert "keepalive" not in text(windows)
    assert "  liveness check      not on this system" in text(windows)
    mac = replace(REPORT, kernel=(KernelOption("SO_KEEPALIVE", 1, 8),))
    assert "  keepalive           on (kernel)\n" in text(mac)
    off = replace(REPORT, kernel=(KernelOption("SO_KEEPALIVE", None, 0),))
    assert "  keepalive           off (kernel)\n" in text(off)
    stock = replace(REPORT, kernel=(KernelOption("TCP_USER_TIMEOUT", None, 0),))
    assert "  network timeout     as long as the kernel retries (kernel)\n" in text(stock)
    mysql = replace(
        REPORT, server=replace(SERVER, vendor="mysql", hostname="", max_connections=None)
    )
    assert "idle transactions" not in text(mysql)
    assert "max_connections" not in text(mysql)
    tls = replace(REPORT, tls=TlsFacts("TLSv1.3", "AES", "unknown"))
    assert "TLSv1.3, AES, whether the certificate is verified is not known" in text(tls)


def test_proof_shows_what_it_cost() -> None:
    received = text(replace(REPORT, proof=PROOF))
    assert "  proof               proven: the server closed connection 7" in received
    assert "next statement 1.2 ms (recycled: closed), a normal one 0.05 ms" in received
    assert "wait_timeout 2 s, 2.0 s idle, then closed by the server" in received
    early = text(replace(REPORT, proof=replace(PROOF, waited=1.0)))
    assert "1.0 s idle, then closed by something on the way" in early
    failed = replace(PROOF, outcome="failed", next_ms=None, closed=None, reason="")
    assert "a normal one" not in text(replace(REPORT, proof=failed))


def test_environment_and_ignored_aliases_are_reported() -> None:
    assert environment_text(ABOUT, 80).splitlines() == [
        "  version             0.1.0",
        "  driver              mysqlclient 2.3.1, MariaDB Connector/C 3.3.20",
        "  Django, Python      6.1.3, 3.12.1 on Linux",
    ]
    bare = replace(ABOUT, driver=None, missing_guards=("poll", "fork"))
    assert "none could be chosen" in environment_text(bare, 80)
    assert "  not on this system  poll, fork" in environment_text(bare, 80)
    pymysql = replace(ABOUT, driver=DriverFacts("pymysql", "1.2.4", ""))
    assert "  driver              PyMySQL 1.2.4\n" in environment_text(pymysql, 80)
    assert ignored_text({"lite": "django.db.backends.sqlite3"}, 80) == (
        "Not on MySQL or MariaDB: lite (django.db.backends.sqlite3)"
    )


def test_summary_counts_what_needs_action() -> None:
    noted = replace(REPORT, findings=(finding("proxy", "."),))
    wrong = replace(
        REPORT,
        alias="b",
        findings=(finding("lost", "."), finding("refused", "."), finding("refused", "!")),
    )
    assert summary([REPORT, noted]) == ""
    assert summary([noted, wrong]) == "b: 1 error, 2 warnings"
    assert not noted.is_wrong and wrong.is_wrong


def test_verdict_comes_first_and_counts_all_findings() -> None:
    noted = replace(REPORT, findings=(finding("proxy", "."),))
    wrong = replace(REPORT, findings=(finding("lost", "."), finding("refused", ".")))
    warned = replace(REPORT, findings=(finding("refused", "."),))
    for reports, said in [
        ([REPORT], "ok (1 alias)"),
        ([REPORT, noted], "ok, 1 note (2 aliases)"),
        ([noted, warned, warned], "2 warnings, 1 note (3 aliases)"),
        ([noted, wrong], "1 error, 1 warning, 1 note (2 aliases)"),
    ]:
        assert verdict_text(reports, no_style()) == said
    assert verdict_text([REPORT], no_style(), "not proved: a") == "ok (1 alias); not proved: a"


def test_findings_and_proof_come_before_facts() -> None:
    lines = text(replace(REPORT, findings=(finding("proxy", "."),), proof=PROOF)).splitlines()
    names = [line[2:22].strip() for line in lines[1:] if line[2:22].strip()]
    assert names[:3] == ["note", "proof", "server"]


def test_notes_are_not_painted_as_errors() -> None:
    style = make_style("dark")
    noted = replace(REPORT, findings=(finding("proxy", "."),))
    shown = alias_text(noted, style, 100)
    assert style.HTTP_NOT_MODIFIED("note") in shown
    assert "\x1b[31" not in shown  # red


@pytest.mark.parametrize("width", [40, 59, 60, 80, 120, 200])
def test_text_fits_into_the_width_except_for_long_words(width: int) -> None:
    found = (finding("proxy", "There is " + "a proxy " * 40), finding("tls_unverified", "Oh."))
    report = replace(REPORT, findings=found, proof=PROOF)
    shown = f"{text(report, width)}\n{environment_text(ABOUT, width)}"
    for line in shown.splitlines():
        assert len(line) <= width or len(line.split()) <= 2, line
    # A wide terminal is used.
    assert max(map(len, shown.splitlines())) > width * 0.7


def test_what_was_not_proved_is_named() -> None:
    proved = replace(REPORT, proof=PROOF)
    vague = replace(REPORT, alias="b", proof=replace(PROOF, outcome="inconclusive"))
    stock = replace(REPORT, alias="c", guarded=False)
    assert unproved([proved, stock]) == ""
    assert unproved([proved, vague, replace(REPORT, alias="d")]) == "not proved: b, d"
    for reports in ([stock], []):
        assert unproved(reports) == "nothing was proved: no alias is on this backend"


def test_levels_choose_what_is_counted() -> None:
    found = (finding("refused", "."), finding("proxy", "."))
    report = replace(REPORT, findings=found)
    assert summary([report], ("error",)) == ""
    assert summary([report], ()) == ""
    assert summary([report], ("error", "warning", "note")) == "default: 1 warning, 1 note"
    shown = alias_text(report, no_style(), 100, ("error", "warning"))
    assert "(django_mysql_recycle.refused)" in shown
    assert "(django_mysql_recycle.proxy)" not in shown and "server" not in shown.splitlines()[1]


# ##### Explanations #####


@each(ids())
def test_every_id_is_explained_within_the_width(name: str) -> None:
    shown = explained(name, 60)
    assert shown is not None and shown.startswith(f"{name}\n\n")
    assert max(map(len, shown.splitlines())) <= 60
    assert not re.search(r"\*\*|`|\]\(", shown)


def test_every_check_has_an_explanation() -> None:
    source = Path(django_mysql_recycle.__file__).parent / "checks"
    codes = {
        code
        for path in source.glob("*.py")
        for code in re.findall(r'"([EWI]\d{3})"', path.read_text(encoding="utf-8"))
    }
    assert codes == {name for name in ids() if re.fullmatch(r"[EWI]\d{3}", name)}


def test_id_is_found_however_it_is_written() -> None:
    assert explained("django_mysql_recycle.w012", 80) == explained("W012", 80)
    assert explained("PROXY", 80) == explained("proxy", 80)
    assert explained("W999", 80) is None and explained("", 80) is None


# ##### JSON #####


def shape(kind: Any) -> Any:
    """The keys of a dataclass and those below them."""
    hints = get_type_hints(kind)
    return {field.name: _shape_of(hints[field.name]) for field in fields(kind)}


def _shape_of(hint: Any) -> Any:
    for part in (hint, *getattr(hint, "__args__", ())):
        if is_dataclass(part):
            return shape(part)
    return None


def keys(shape: Any, path: str) -> list[str]:
    found = []
    for name, below in shape.items():
        found.append(f"{path}{name}")
        found += keys(below, f"{path}{name}.") if below else []
    return found


def test_json_is_the_dataclasses_and_says_whether_all_is_well() -> None:
    document = as_dict(ABOUT, [replace(REPORT, proof=PROOF)], {"lite": "sqlite3"})
    assert json.loads(json.dumps(document))["aliases"][0]["proof"]["control"]["code"] == 2006
    assert (document["schema"], document["ok"]) == (1, True)
    assert document["ignored"] == [{"alias": "lite", "engine": "sqlite3"}]
    wrong = replace(REPORT, findings=(finding("lost", "."),))
    assert as_dict(ABOUT, [wrong], {})["ok"] is False


def test_json_fits_its_schema() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    jsonschema.Draft202012Validator.check_schema(schema())
    bare = AliasReport("a", "django_mysql_recycle", True, False, None, False, None)
    full = replace(REPORT, proof=PROOF, findings=(finding("proxy", "."),))
    refused = replace(full, server=replace(SERVER, refusals=((1226, "no"), (None, "no"))))
    document = json.loads(json.dumps(as_dict(ABOUT, [bare, full, refused], {"lite": "sqlite3"})))
    assert [error.message for error in validator.iter_errors(document)] == []
    document["aliases"][1]["server"]["wait_timeout"] = "600"
    del document["environment"]["version"]
    assert len([*validator.iter_errors(document)]) == 2


def test_json_keys_are_those_of_the_document() -> None:
    """A key that goes or is renamed needs another number of SCHEMA, and each needs a line."""
    listed = []
    for part in _section("JSON").split("\n### ")[1:]:
        heading, _, rest = part.partition("\n")
        path = heading.strip("`").replace("[]", "")
        path = "" if path == "The document" else f"{path}."
        for cell in re.findall(r"^\| (`.*?`) \|", rest, re.MULTILINE):
            listed += [path + name for name in re.findall(r"`(\w+)`", cell)]
    there = ["schema", "ok", "ignored", "ignored.alias", "ignored.engine"]
    there += ["environment", *keys(shape(Environment), "environment.")]
    there += ["aliases", *keys(shape(AliasReport), "aliases.")]
    # Both limits have the same keys, and are described together.
    there = [name.replace("aliases.max_age.", "aliases.idle_limit.") for name in there]
    assert sorted(listed) == sorted(set(there))


# ##### The document #####


def _section(title: str) -> str:
    _, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def test_document_lists_the_findings_as_the_code_has_them() -> None:
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (\w+) \| (.*?) \| (.*?) \|$", _section("Findings"), re.MULTILINE
    )
    assert {row[0]: row[1:] for row in rows} == {
        name: (kind.level, kind.about, kind.hint or "by the number, see below")
        for name, kind in KINDS.items()
    }


def test_document_lists_the_hints_for_errors_of_connecting() -> None:
    rows = re.findall(r"^\| (\d{4}) \| (.*) \|$", _section("Findings"), re.MULTILINE)
    assert {int(number): hint for number, hint in rows} == CONNECT_HINTS


def test_finding_has_the_level_and_hint_of_its_kind() -> None:
    assert finding("proxy", "there") == Finding(
        "django_mysql_recycle.proxy", "note", "there", KINDS["proxy"].hint
    )
    assert findings.connect_hint(1045) == CONNECT_HINTS[1045]
    assert findings.connect_hint(None) == OTHER_HINT
