"""What is finished, and what it was made from: DIR/done/STEP.json."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from snce.errors import SnceError
from snce.storage import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def digest(value: Any) -> str:
    """16 hex digits that tell values apart."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def once(
    folder: Path,
    step: str,
    made_from: Mapping[str, Any],
    product: Path,
    make: Callable[[], object],
    whole: Path | None = None,
) -> None:
    """Make the product, unless it is there and was made from the same.

    Args:
        whole: the folder with all that is made beside it, if that is to be deleted before it can be made anew.

    Raises:
        SnceError: it was made from something else, or the record of it is damaged.
    """
    path = folder / "done" / f"{step}.json"
    if path.exists() and product.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            other = [key for key in {**there, **made_from} if there.get(key) != made_from.get(key)]
        except (OSError, ValueError, TypeError) as error:
            raise SnceError(f"{path} is damaged: delete it, and the step is made again") from error
        if other:
            raise SnceError(
                f"{product} was made from another {', '.join(other)}: choose another --out, or delete {path} and "
                f"{whole or product} to make it again"
            )
        print(f"== {step}: finished before", flush=True)
        return
    print(f"== {step}", flush=True)
    make()
    write_text(path, json.dumps(dict(made_from), indent=1) + "\n")
