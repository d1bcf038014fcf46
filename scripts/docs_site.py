"""Build the documentation site: `scripts/docs_site.py [FOLDER]`, into build/site by default.

Every warning of Sphinx is an error. Then each address that the package names in its errors and
hints must be in the site. Needs the package and the dependency group 'docs'; `nox -s docs` has both.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from django_mysql_recycle import documents

ROOT = Path(__file__).resolve().parent.parent


def addresses() -> set[str]:
    """What the package and the alert rules may name."""
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "django_mysql_recycle").rglob("*.py")
    )
    checks = set(re.findall(r'\bcheck\(\s*"([EWI]\d{3})"', source))
    numbers = map(int, re.findall(r"\bof_error\((\d+)\)", source))
    rules = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/alerts/*.yml"))
    return {
        *re.findall(rf"{re.escape(documents.SITE)}\S+", rules),
        documents.SITE,
        documents.TROUBLESHOOTING,
        documents.SESSION_STATE_LOST,
        *(documents.of_check(f"django_mysql_recycle.{code}") for code in checks),
        *map(documents.of_error, numbers),
    }


def missing(site: Path) -> Iterator[str]:
    """The addresses that the site does not have."""
    for address in sorted(addresses()):
        path, _, anchor = address.removeprefix(documents.SITE).partition("#")
        page = site / (path or "index.html")
        if not page.exists() or f'id="{anchor}"' not in page.read_text(encoding="utf-8"):
            if anchor or not page.exists():
                yield address


def main(folder: Path) -> int:
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-E"]
    built = subprocess.run([*command, "-b", "html", str(ROOT / "docs"), str(folder)], check=False)
    if built.returncode:
        return built.returncode
    dead = list(missing(folder))
    for address in dead:
        print(f"expected a page and an anchor, found a dead address: {address}")
    print(f"{folder}: {len(list(folder.rglob('*.html')))} pages, {len(addresses())} addresses")
    return 1 if dead else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site")))
