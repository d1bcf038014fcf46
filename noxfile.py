"""The matrix: every supported Django, both drivers, both servers, and Django's own tests.

`nox --list` names the sessions. A session that lacks its interpreter fails.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.error_on_missing_interpreters = True
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "types", "tests", "django_suite"]

# pyenv's interpreters are not on the PATH under their own names unless they were chosen globally.
_pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
os.environ["PATH"] = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), *(str(path) for path in sorted(_pyenv.glob("*/bin")))]
)


def newest(*versions: str) -> str:
    """Return the first of these Python versions that this machine has, the first if it has none."""
    folders = os.environ["PATH"].split(os.pathsep)
    for version in versions:
        # pyenv's own stand-ins answer to every name and run only what was chosen.
        if any(
            Path(folder, f"python{version}").exists() for folder in folders if "shims" not in folder
        ):
            return version
    return versions[0]


# The oldest Python with the oldest Django, the newest with the newest.
PYTHONS = {
    "5.2": newest("3.10", "3.11", "3.12"),
    "6.0": newest("3.12", "3.13", "3.14"),
    "6.1": newest("3.14", "3.13", "3.12"),
}
OLDEST, NEWEST = "5.2", "6.1"


def install(session: nox.Session, django: str) -> None:
    session.install("--quiet", "pip>=25.1")
    session.install(
        "--quiet", f"django~={django}.0", "-e", ".[mysqlclient,pymysql]", "--group", "test"
    )


@nox.session(python=PYTHONS[NEWEST])
def lint(session: nox.Session) -> None:
    session.install("--quiet", "pip>=25.1")
    session.install("--quiet", "--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHONS[NEWEST])
def types(session: nox.Session) -> None:
    install(session, NEWEST)
    session.install("--quiet", "--group", "types", "nox")
    session.run("mypy")


@nox.session(python=PYTHONS[NEWEST])
def package(session: nox.Session) -> None:
    """Build what would be published, into dist/, and check it. `-- --tag v0.1.0` checks a tag, too."""
    session.install("--quiet", "build", "check-wheel-contents", "twine")
    session.run("python", "scripts/package.py", *session.posargs)


@nox.session(python=PYTHONS[NEWEST])
def docs(session: nox.Session) -> None:
    """Build the documentation site into build/site. Every warning is an error."""
    session.install("--quiet", "pip>=25.1")
    session.install("--quiet", "-e", ".", "--group", "docs")
    session.run("python", "scripts/docs_site.py", *session.posargs)


@nox.session
@nox.parametrize(
    "python,django",
    [(python, django) for django, python in PYTHONS.items()],
    ids=list(PYTHONS),
)
def tests(session: nox.Session, django: str) -> None:
    """All tests on the newest Django, those marked 'core' on the others.

    The Django in the middle is met on one server: what both its neighbours do, it does.
    """
    install(session, django)
    scope = ["--coverage"] if django == NEWEST else ["-m", "core"]
    if django not in (NEWEST, OLDEST):
        scope += ["--servers", "mariadb"]
    session.run(
        *["python", "scripts/run_tests.py", "--drivers", "mysqlclient", "pymysql"],
        *scope,
        *session.posargs,
    )


@nox.session(python=PYTHONS[NEWEST])
def libmysqlclient(session: nox.Session) -> None:
    """mysqlclient on Oracle's libmysqlclient, on MySQL."""
    install(session, NEWEST)
    session.run("python", "scripts/run_tests.py", "--libmysqlclient", *session.posargs)


@nox.session(python=PYTHONS["6.0"])
@nox.parametrize("driver", ["mysqlclient", "pymysql"])
def packages(session: nox.Session, driver: str) -> None:
    """Other packages that Django projects use, beside this one: tests/packages.

    Not all of them accept Django 6.1 yet. With YES=1 it unpacks Redis and installs mysqldump where
    they are missing.
    """
    install(session, "6.0")
    session.install("--quiet", "--group", "packages")
    environment = {"RECYCLE_TEST_DRIVER": driver}
    session.run("pytest", "tests/packages", *session.posargs, env=environment)


@nox.session(python=PYTHONS[NEWEST])
@nox.parametrize("server", ["mariadb", "mysql"])
@nox.parametrize("driver", ["mysqlclient", "pymysql"])
def django_suite(session: nox.Session, driver: str, server: str) -> None:
    """Django's own tests: the same results on our engine as on the stock one."""
    install(session, NEWEST)
    session.run(
        *["python", "scripts/django_suite.py", "--driver", driver, "--server", server],
        *session.posargs,
    )


@nox.session(python=PYTHONS[NEWEST])
@nox.parametrize(
    "driver,server",
    [("mysqlclient", "mariadb"), ("pymysql", "mysql")],
    ids=["mysqlclient-mariadb", "pymysql-mysql"],
)
def pool(session: nox.Session, driver: str, server: str) -> None:
    """The pool under four ASGI servers, gevent, Celery and threads, with faults: an hour.

    RECYCLE_POOL_REQUESTS is the number of requests of each load (25,000). Each of the ASGI servers
    has one load without killed connections and one with them, 200,000 requests in all.
    """
    install(session, NEWEST)
    session.install("--quiet", "--group", "pool")
    session.run(
        *["pytest", "tests/pool", *session.posargs],
        env={
            "RECYCLE_POOL_REQUESTS": os.environ.get("RECYCLE_POOL_REQUESTS", "25000"),
            "RECYCLE_POOL_SERVERS": "uvicorn,hypercorn,daphne,granian",
            "RECYCLE_TEST_DRIVER": driver,
            "RECYCLE_TEST_SERVER": server,
        },
    )


@nox.session(python="3.12")
def comparison(session: nox.Session) -> None:
    """What users pick instead, through the same failures; writes docs/comparison.md anew."""
    install(session, NEWEST)
    # mysql_server_has_gone imports retry, and does not say that it needs it.
    session.install(
        *("--quiet", "django-db-connection-pool==1.2.6", "mysql_server_has_gone==2.0.5", "retry"),
        "django-dbconn-retry==0.3.1",
    )
    session.run("python", "-m", "tests.comparison", *session.posargs)
