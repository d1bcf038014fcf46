"""Look for dead links, dead anchors and wrong numbers in the documents.

`make docs-check`. Standard library only, no network unless `--online`. Every finding is a line
`file:line: expected ..., found ...`; the exit status is 1 if there is one.

A number that comes from a recorded result, or that counts something, is followed by a comment that
readers of the rendered page do not see:

    3.4 us <!-- from: docs/generated/benchmarks/statement.json rows[case=autocommit].ratio.median .1f -->
    10 settings <!-- count: settings -->
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from docs_links import check_index, check_links, check_online, external
from docs_numbers import check_defaults, check_generated, check_numbers, check_versions
from docs_pages import Finding, documents

ROOT = Path(__file__).resolve().parent.parent


def check(root: Path) -> Iterator[Finding]:
    """All findings that need no network."""
    paths = documents(root)
    for path in paths:
        yield from check_links(path, root)
        yield from check_numbers(path, root)
        yield from check_defaults(path, root)
    yield from check_index(root)
    yield from check_versions(paths, root)
    yield from check_generated(root)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--online", action="store_true", help="also request the external links")
    parser.add_argument("--list", action="store_true", help="list the external links")
    options = parser.parse_args(arguments)
    paths = documents(ROOT)
    if options.list:
        print(*sorted(external(paths)), sep="\n")
    findings = list(check(ROOT))
    if options.online:
        findings += check_online(paths)
    for path, line, text in findings:
        print(f"{path.relative_to(ROOT)}:{line}: {text}")
    print(
        f"{len(paths)} documents, {len(external(paths))} external links, {len(findings)} findings"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
