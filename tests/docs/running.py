"""Running a snippet: Python against the server of this run, shell lines against what there is."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any

from django.core.management import get_commands, load_command_class
from django.db.utils import ConnectionHandler

from servers import Server
from tests.integration.connections import point

from .snippets import ROOT, Snippet

Names = dict[str, Any]

_ENTRY = re.compile(r'\s*(#.*\n\s*)*"[A-Z_]+":')
_ENGINE = re.compile(r'"ENGINE": "([\w.]+)"')
_OURS = ("tests/", "docs/", "scripts/", "servers/", "benchmarks/", "example_project/")
_VARIABLE = re.compile(r"\w+=")


def run_python(snippet: Snippet, names: Names, server: Server) -> None:
    """Run a Python block in the namespace of its page."""
    if snippet.setup:
        _execute(_placed(snippet.setup, snippet, snippet.setup_line), names)
    code = _placed(_whole(snippet.text), snippet, snippet.line)
    if snippet.skipped or snippet.file:
        return
    if snippet.own_process:
        subprocess.run([sys.executable, "-c", snippet.text], cwd=ROOT, check=True)
        return
    try:
        _execute(code, names)
    except Exception as error:
        if type(error).__name__ != snippet.raises:
            raise
    else:
        assert not snippet.raises, f"{snippet}: {snippet.raises} was not raised"
    databases = names.pop("DATABASES", None)
    if databases is not None:
        for entry in databases.values():
            connect(entry, server)


def _whole(text: str) -> str:
    """A fragment of an entry of DATABASES as a module of its own; the lines stay where they are."""
    if not _ENTRY.match(text):
        return text
    return f'DATABASES = {{"default": {{{text.rstrip().rstrip(",")}\n}}}}\n'


def _placed(text: str, snippet: Snippet, line: int) -> types.CodeType:
    """Compiled so that a traceback names the line of the document."""
    padded = "\n" * (line - 1) + text
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: types.CodeType = compile(
        padded, str(snippet.path), "exec", flags=flags, dont_inherit=True
    )
    return code


def _execute(code: types.CodeType, names: Names) -> None:
    answer = eval(code, names)  # a document's own code; with await it is a coroutine
    if asyncio.iscoroutine(answer):
        asyncio.run(answer)


def connect(entry: dict[str, Any], server: Server) -> None:
    """Open a connection with an entry of DATABASES as a document has it, on this run's server."""
    database = {"ENGINE": "django_mysql_recycle", **entry}
    if not database["ENGINE"].startswith("django_mysql_recycle"):
        find_engine(database["ENGINE"])
        return
    point(database, server)
    # The certificates and option files that a document names are the reader's.
    options = dict(database.get("OPTIONS") or {})
    for key in ("ssl", "ssl_mode", "read_default_file", "unix_socket"):
        options.pop(key, None)
    database["OPTIONS"] = options
    connection = ConnectionHandler({"default": database})["default"]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
    finally:
        connection.close()


def find_engine(name: str) -> None:
    assert find_spec(f"{name}.base") is not None, f"no database backend {name}"


def check_diff(snippet: Snippet) -> None:
    """The new side names engines that exist."""
    for line in snippet.text.splitlines():
        assert line[:1] in ("", " ", "+", "-"), f"{snippet}: {line!r} is no line of a diff"
        if line.startswith("+"):
            for engine in _ENGINE.findall(line):
                find_engine(engine)


def check_shell(snippet: Snippet, commands: Collection[str] = ()) -> None:
    """What the lines call exists: targets, management commands with their options, extras.

    `commands` are management commands that the page itself makes.
    """
    for line in snippet.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and (_VARIABLE.match(words[0]) or words[0] == "export"):
            del words[0]
        if not words:
            continue
        program, *arguments = words
        if not program.endswith(".py"):
            program = program.rpartition("/")[2]
        if program.startswith("python") and arguments[:1] == ["-m"]:
            program, *arguments = arguments[1:]
            if program != "pip":
                assert find_spec(program) is not None, f"{snippet}: no module {program}"
        elif program.startswith("python") and arguments:
            program, *arguments = arguments
        if program == "make":
            _check_targets(snippet, arguments)
        elif program.endswith("manage.py"):
            if arguments[0] not in commands:
                _check_command(snippet, arguments)
        elif program == "pip" and arguments[:1] == ["install"]:
            _check_install(snippet, arguments[1:])
        elif program.endswith(".py"):
            assert (ROOT / program).exists(), f"{snippet}: no file {program}"
        for word in arguments:
            if word.startswith(_OURS):
                assert (ROOT / word.partition("::")[0]).exists(), f"{snippet}: no file {word}"


def _check_targets(snippet: Snippet, arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    for target in arguments:
        if not _VARIABLE.match(target) and not target.startswith((".", "-")):
            assert target in targets, f"{snippet}: no target {target} in the Makefile"


def _check_command(snippet: Snippet, arguments: list[str]) -> None:
    name, *options = arguments
    app: Any = get_commands().get(name)
    if (ROOT / "django_mysql_recycle" / "management" / "commands" / f"{name}.py").exists():
        app = "django_mysql_recycle"
    if app is not None:
        load_command_class(app, name).create_parser("manage.py", name).parse_args(options)
        return
    # Of the example project, which this run's settings do not know.
    found = list(ROOT.glob(f"example_project/*/management/commands/{name}.py"))
    assert found, f"{snippet}: no management command {name}"
    for option in options:
        if option.startswith("--"):
            assert f'"{option}"' in found[0].read_text(), f"{snippet}: {name} has no {option}"


def _check_install(snippet: Snippet, arguments: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = ", section, re.MULTILINE))
    for argument in arguments:
        found = re.fullmatch(r"(?:\.|django[-_]mysql[-_]recycle)\[([\w,]+)\]", argument)
        if found:
            assert set(found[1].split(",")) <= extras, f"{snippet}: extras are {extras}"
