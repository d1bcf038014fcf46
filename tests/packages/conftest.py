"""Fixtures for the tests of other packages: those of the recipes, and a project with a package."""

from __future__ import annotations

from tests.docs.conftest import *  # noqa: F403 - pytest finds fixtures by their names
from tests.docs.conftest import _clean_tables, _server_runs_again, server
from tests.docs.recipes.conftest import bank, make_project

__all__ = ["_clean_tables", "_server_runs_again", "bank", "make_project", "server"]
