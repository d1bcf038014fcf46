"""Asks before anything is installed outside the folder of the project.

YES=1 answers yes, YES=0 no. Where there is no terminal, as in a container or a script, nobody can be
asked: what is installed is shown, and installed unless YES=0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .errors import NotAvailable

__all__ = ["agree", "ask", "given", "require"]


def given() -> bool:
    """Whether the user has agreed, by YES=1 in the environment or by an answer."""
    return os.environ.get("YES", "") not in ("", "0")


def agree() -> None:
    """Take everything that follows for agreed, also in programs that this one starts."""
    os.environ["YES"] = "1"


def ask(plan: Sequence[str]) -> None:
    """Show what is going to be installed, and ask once for all of it.

    Raises `NotAvailable` unless the answer is yes.
    """
    print("This will be installed outside the folder of the project:", flush=True)
    for line in plan:
        print(f"  {line}", flush=True)
    if given():
        return
    if os.environ.get("YES") == "0":
        raise NotAvailable("It is not installed, because YES=0 is set.")
    if not (sys.stdin and sys.stdin.isatty()):
        print("There is no terminal to ask at: going on. YES=0 prevents it.", flush=True)
        agree()
        return
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise NotAvailable("Nothing was installed.")
    agree()


def require(what: str, size: str, by_hand: str) -> None:
    """Say what is about to be installed, and ask if that has not been agreed to.

    `size`: how much it is, as far as that is known. `by_hand`: what the user can do instead. Raises
    `NotAvailable` unless the answer is yes.
    """
    about = f"{what} ({size})" if size else what
    if given():
        print(f"set-up: {about}", file=sys.stderr, flush=True)
        return
    try:
        ask([about])
    except NotAvailable as error:
        raise NotAvailable(f"{about}: {error} Otherwise {by_hand}") from error
