"""Build the package and check what would be published: `scripts/package.py [--tag v0.1.0]`.

Makes a source distribution and, from it, a wheel in `dist/`, and runs `twine check --strict` and
`check-wheel-contents` on them. With `--tag`, the tag, pyproject.toml and CHANGELOG.md must name one
version. The exit status is 1 if anything is wrong. Needs build, twine and check-wheel-contents.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def versions_differ(tag: str, project: str, changelog: str) -> str:
    """What is wrong with a tag, or an empty text."""
    version = re.search(r'^version = "([^"]+)"', project, re.MULTILINE)
    entry = re.search(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    found = {
        "the tag": tag.removeprefix("v"),
        "pyproject.toml": version[1] if version else "no version",
        "CHANGELOG.md": entry[1] if entry else "no version with a date",
    }
    if len(set(found.values())) == 1 and tag.startswith("v"):
        return ""
    said = ", ".join(f"{name} says {value}" for name, value in found.items())
    return f"expected one version, and a tag that begins with 'v': {said}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tag", help="the tag of the release, such as v0.1.0")
    options = parser.parse_args(arguments)
    if options.tag:
        wrong = versions_differ(
            options.tag,
            (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
            (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        )
        if wrong:
            print(wrong)
            return 1
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    if not run("-m", "build", "--outdir", str(folder)):
        return 1
    built = [str(path) for path in sorted(folder.iterdir())]
    wheels = [name for name in built if name.endswith(".whl")]
    checked = [
        run("-m", "twine", "check", "--strict", *built),
        run("-m", "check_wheel_contents", *wheels),
    ]
    return 0 if all(checked) else 1


def run(*arguments: str) -> bool:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
