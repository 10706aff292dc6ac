"""Put measured tables into the pages that quote them, between a pair of comments.

python benchmarks/document.py README.md results build/all/summary.md
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from snce.storage import write_text


def put(page: Path, name: str, table: str) -> None:
    """Replace what stands between <!-- NAME:begin --> and <!-- NAME:end --> in `page`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"{page} must hold {begin} and {end} once")
    write_text(page, pattern.sub(lambda _: f"{begin}\n{table.strip()}\n{end}", text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("name")
    parser.add_argument("table", type=Path)
    args = parser.parse_args()
    put(args.page, args.name, args.table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
