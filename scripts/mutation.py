"""Change one line of the core at a time, and see whether a test notices.

    python scripts/mutation.py map tests/integration    # which test executes which line
    python scripts/mutation.py run --number 200         # make 200 mutants and run tests on them

A mutant is a module with one change: a condition that is negated or lacks a part, another
comparison, a statement that is left out, `not` before what a function returns, True for False.
`run` takes a random sample, which `--seed` repeats. It runs the tests that execute the changed line,
and of each test function one first, until one fails. A test must fail twice in a row. Each mutant
has a process and a server of its own. `map` writes build/mutation/map.json, `run` adds to
results.json. The driver and the server are chosen as for the tests. Needs Python 3.12.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "django_mysql_recycle"
BUILD = ROOT / "build" / "mutation"
MODULES = [
    *("guard", "connection", "ledger", "cursors", "transactions"),
    *("boundary", "losses", "replacement", "rollbacks", "evidence"),
]
#: They count calls, take long, or are about something else.
LEFT_OUT = ("test_cost", "test_soak", "test_lifetime", "test_example_project", "test_gunicorn")
PYTEST = ["-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout=20"]
#: Seconds without the end of a test after which a mutant counts as noticed.
STUCK = 60.0

# ##### The mutants #####


class Mutant(NamedTuple):
    module: str
    function: str  #: the qualified name of the function
    line: int
    end: int
    what: str
    node: int  #: which node of the module's tree is replaced
    choice: int  #: by which of its replacements

    @property
    def name(self) -> str:
        return f"{self.module}.py:{self.line} {self.what}"


#: The tests have to pass where nothing is changed.
CONTROL = Mutant("", "", 0, 0, "nothing is changed", 0, 0)

_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


def _negated(node: Any) -> ast.expr:
    return ast.UnaryOp(ast.Not(), copy.deepcopy(node))


def _replacements(node: Any, returns_bool: bool) -> Iterator[tuple[str, ast.AST]]:
    """What may stand in the place of a statement or expression, and how to say it."""
    changed: Any = copy.deepcopy(node)
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        changed.test = _negated(node.test)
        yield f"negated: {ast.unparse(node.test)}", changed
    elif isinstance(node, ast.BoolOp):
        for number, part in enumerate(node.values):
            rest = [value for value in node.values if value is not part]
            changed = ast.BoolOp(node.op, copy.deepcopy(rest)) if rest[1:] else rest[0]
            yield f"part {number + 1} left out: {ast.unparse(part)}", copy.deepcopy(changed)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        changed.ops = [_OPPOSITE[type(node.ops[0])]()]
        yield f"{ast.unparse(node)} -> {ast.unparse(changed)}", changed
    elif isinstance(node, ast.Return) and returns_bool and node.value is not None:
        yield f"not: {ast.unparse(node)}", ast.Return(_negated(node.value))
    elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
        if isinstance(node.value.value, bool):
            changed.value.value = not node.value.value
            yield f"{ast.unparse(node)} -> {ast.unparse(changed)}", changed
    elif isinstance(node, (ast.Raise, ast.Continue, ast.Return)) or _is_call_or_state(node):
        yield f"left out: {ast.unparse(node)}", ast.Pass()


def _is_call_or_state(node: Any) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if not isinstance(node, (ast.Assign, ast.AugAssign)):
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(part, ast.Attribute) for one in targets for part in ast.walk(one))


def _parsed(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text())


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")


def _nodes(tree: ast.Module) -> Iterator[tuple[str, Any, list[tuple[str, ast.AST]]]]:
    """Each node inside of a function: the function's name, the node, and what may replace it."""
    for name, function in _functions(tree):
        returns_bool = isinstance(function.returns, ast.Name) and function.returns.id == "bool"
        for node in [node for statement in function.body for node in ast.walk(statement)]:
            yield name, node, list(_replacements(node, returns_bool))


def mutants(module: str) -> Iterator[Mutant]:
    """All mutants of what is inside of the functions of a module."""
    for number, (name, node, replacements) in enumerate(_nodes(_parsed(module))):
        for choice, (what, _) in enumerate(replacements):
            place = node.test if isinstance(node, (ast.If, ast.While)) else node
            what = f"{name}: {' '.join(what.split())}"
            lines = (place.lineno, place.end_lineno or place.lineno)
            yield Mutant(module, name, *lines, what, number, choice)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return ast.copy_location(self.new, node)
        return self.generic_visit(node)


def _codes(mutant: Mutant, path: str) -> list[CodeType]:
    """The code of the changed function: of a property there may be several."""
    tree = _parsed(mutant.module)
    _, node, replacements = next(islice(_nodes(tree), mutant.node, None))
    changed: Any = _Replace(node, replacements[mutant.choice][1]).visit(tree)
    rest: list[Any] = [compile(ast.fix_missing_locations(changed), path, "exec", dont_inherit=True)]
    found = []
    while rest:
        code = rest.pop()
        rest += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        if code.co_qualname == mutant.function:
            found.append(code)
    return found


def install(mutant: Mutant, functions: list[FunctionType]) -> bool:
    """Put the mutant's code into the functions that have been imported."""
    path = str(PACKAGE / f"{mutant.module}.py")
    codes = {code.co_firstlineno: code for code in _codes(mutant, path)}
    found = False
    for function in functions:
        code: Any = function.__code__
        if (code.co_filename, code.co_qualname) == (path, mutant.function):
            try:
                function.__code__ = codes[code.co_firstlineno]
            except ValueError:
                return False  # it has other free variables
            found = True
    return found


# ##### Which test executes which line #####


class Recorder:
    """A plugin of pytest that notes the seconds of each test, and the lines of the core it runs."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()
        self.tests: dict[str, Any] = {}
        self.failed: set[str] = set()
        self.files = {str(PACKAGE / f"{module}.py"): module for module in MODULES}
        self.monitoring: Any = getattr(sys, "monitoring")  # noqa: B009 - of Python 3.12
        tool, line = 4, self.monitoring.events.LINE
        self.monitoring.use_tool_id(tool, "mutation")
        self.monitoring.register_callback(tool, line, self._line)
        self.monitoring.set_events(tool, line)

    def _line(self, code: CodeType, line: int) -> object:
        module = self.files.get(code.co_filename)
        if module is not None:
            self.lines.add((module, line))
        return self.monitoring.DISABLE

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.lines = set()
        self.monitoring.restart_events()
        began = time.monotonic()
        yield
        lines: dict[str, list[int]] = defaultdict(list)
        for module, line in sorted(self.lines):
            lines[module].append(line)
        self.tests[item.nodeid] = {"seconds": time.monotonic() - began, "lines": lines}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)


def record(arguments: list[str]) -> None:
    recorder = Recorder()
    left_out = [f"--ignore-glob=*/{name}.py" for name in LEFT_OUT]
    pytest.main([*PYTEST, *left_out, *arguments], plugins=[recorder])
    path = BUILD / "map.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {**_read(path), **recorder.tests}
    for name in recorder.failed:
        known.pop(name, None)
    path.write_text(json.dumps(known))
    print(f"{len(known)} tests; {len(recorder.failed)} failed or were skipped")


def _read(path: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return known


# ##### The experiment #####


class Running(NamedTuple):
    mutant: Mutant
    pid: int
    tests: list[str]
    passed: int
    since: float  #: when the last test ended


class Experiment:
    """A plugin of pytest: instead of running the tests once it runs some for each mutant."""

    def __init__(self, chosen: list[Mutant], options: argparse.Namespace) -> None:
        self.chosen, self.options = chosen, options
        self.map = _read(BUILD / "map.json")
        self.path = BUILD / "results.json"
        self.results = _read(self.path)
        #: How many mutants each test has noticed.
        self.noticed = Counter(result["by"] for result in self.results.values())
        self.items: dict[str, Any] = {}
        self.functions: list[FunctionType] = []

    def files(self) -> list[str]:
        return sorted({name.partition("::")[0] for name in self.map})

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {
            item.nodeid: item
            for item in session.items
            if self.map.get(item.nodeid, {"seconds": 1e9})["seconds"] < self.options.slowest
        }
        self.functions = [
            found
            for found in gc.get_objects()
            if isinstance(found, FunctionType)
            and found.__code__.co_filename.startswith(str(PACKAGE))
        ]
        gc.freeze()
        waiting = [mutant for mutant in self.chosen if mutant.name not in self.results]
        running: dict[int, Running] = {}
        while waiting or running:
            while waiting and len(running) < self.options.jobs:
                self._start(waiting.pop(0), running)
            for pipe in select.select(list(running), [], [], 1.0)[0]:
                self._note_byte(os.read(pipe, 1), pipe, running)
            for pipe in [p for p, one in running.items() if time.monotonic() - one.since > STUCK]:
                os.kill(running[pipe].pid, signal.SIGKILL)
                self._note_byte(b"", pipe, running)
        return True

    def _start(self, mutant: Mutant, running: dict[int, Running]) -> None:
        tests = self._tests(mutant)
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            self._run(mutant, tests, writer)
        os.close(writer)
        running[reader] = Running(mutant, pid, tests, 0, time.monotonic())

    def _tests(self, mutant: Mutant) -> list[str]:
        if mutant is CONTROL:
            return list(self.items)
        lines = set(range(mutant.line, mutant.end + 1))
        names = [n for n in self.items if lines & set(self.map[n]["lines"].get(mutant.module, ()))]
        # Tests that have noticed another mutant first, then the fastest of each function.
        turns: Counter[str] = Counter()
        order = []
        for name in sorted(names, key=lambda name: self.map[name]["seconds"]):
            function = name.partition("[")[0]
            order.append((-self.noticed[name], turns[function], name))
            turns[function] += 1
        seconds = 0.0
        chosen = []
        for *_, name in sorted(order, key=lambda entry: entry[:2]):
            seconds += self.map[name]["seconds"]
            if seconds < self.options.seconds:
                chosen.append(name)
        # What a child process executes is in no map.
        return chosen + [name for name in self.items if "fork" in name and name not in chosen]

    def _run(self, mutant: Mutant, tests: list[str], pipe: int) -> None:
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, 1)
        os.dup2(void, 2)
        said = b"N"
        try:
            if mutant is CONTROL or install(mutant, self.functions):
                items = [self.items[name] for name in tests]
                said = b"S"
                for item, following in zip(items, [*items[1:], None], strict=True):
                    if not _passes(item, following) and not _passes(item, following):
                        said = b"F"
                        break
                    os.write(pipe, b".")
        finally:
            os.write(pipe, said)
            os._exit(0)

    def _note_byte(self, said: bytes, pipe: int, running: dict[int, Running]) -> None:
        one = running.pop(pipe)
        if said == b".":
            running[pipe] = one._replace(passed=one.passed + 1, since=time.monotonic())
            return
        os.close(pipe)
        os.waitpid(one.pid, 0)
        result = {b"F": "noticed", b"S": "survived", b"N": "not made"}.get(said, "stuck")
        by = one.tests[one.passed] if result in ("noticed", "stuck") else ""
        self.noticed[by] += 1
        self.results[one.mutant.name] = {"result": result, "by": by, "tests": one.passed}
        self.path.write_text(json.dumps(self.results, indent=1))
        print(f"{result:10} {one.mutant.name}   {by or f'{one.passed} tests'}", flush=True)


def _passes(item: Any, following: Any) -> bool:
    item._initrequest()
    reports = runtestprotocol(item, nextitem=following, log=False)
    return not any(report.failed for report in reports)


def experiment(options: argparse.Namespace) -> None:
    every = [mutant for module in options.modules for mutant in mutants(module)]
    random.Random(options.seed).shuffle(every)
    print(f"{len(every)} mutants can be made")
    if options.only:
        every = [mutant for mutant in every if any(part in mutant.name for part in options.only)]
    plugin = Experiment([CONTROL] if options.control else every[: options.number], options)
    pytest.main([*PYTEST, *plugin.files()], plugins=[plugin])
    print(Counter(result["result"] for result in plugin.results.values()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    mapping = commands.add_parser("map", help="record which test executes which line")
    mapping.add_argument("pytest", nargs="*", default=["tests/integration", "tests/unit"])
    running = commands.add_parser("run", help="make mutants and run tests on each one")
    running.add_argument("modules", nargs="*", default=MODULES)
    running.add_argument("--number", type=int, default=200, help="mutants in the sample")
    running.add_argument("--seed", type=int, default=1)
    running.add_argument("--jobs", type=int, default=2, help="mutants at the same time")
    running.add_argument("--seconds", type=float, default=60, help="of tests for each mutant")
    running.add_argument("--slowest", type=float, default=8, help="seconds of one test")
    running.add_argument("--only", nargs="*", help="mutants whose name contains one of these")
    running.add_argument("--control", action="store_true", help="change nothing, run all tests")
    options = parser.parse_args()
    os.chdir(ROOT)
    if options.command == "map":
        record(options.pytest)
    else:
        experiment(options)


if __name__ == "__main__":
    main()
