"""Step 1: fetch the icon sets and the emoji data from the npm registry (`npm pack`), pinned by version."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile

from .paths import PACKAGES

ICON_SETS = {
    # style name in captions -> (npm package, version, licence)
    "noto": ("@iconify-json/noto", "1.2.9", "Apache-2.0"),
    "classic": ("@iconify-json/noto-v1", "1.2.5", "Apache-2.0"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0"),
    "emojione": ("@iconify-json/emojione", "1.2.3", "CC-BY-4.0"),
    "streamline": ("@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0"),
    "fluent": ("@iconify-json/fluent-emoji", "1.2.7", "MIT"),
    "flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT"),
    "monochrome": ("@iconify-json/fluent-emoji-high-contrast", "1.2.6", "MIT"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2", "Apache-2.0"),
}
"""The nine styles. Names are single words that no other style's name contains, as nine artists' names would be."""

EMOJI_DATA = {"unicode-emoji-json": "0.9.0"}


def fetch(package: str, version: str) -> None:
    """Put `package` at `version` into `PACKAGES/<package>`, unless it is there already."""
    target = PACKAGES / package.replace("/", "__")
    partial = PACKAGES / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    if target.exists():
        if json.loads((target / "package.json").read_text())["version"] == version:
            return
        shutil.rmtree(target)
    partial.mkdir(parents=True)
    command = ["npm", "pack", f"{package}@{version}", "--pack-destination", str(partial), "--silent"]
    name = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[-1]
    with tarfile.open(partial / name) as tar:
        tar.extractall(partial, filter="data")
    (partial / "package").rename(target)
    shutil.rmtree(partial)


def main() -> None:
    if shutil.which("npm") is None:
        raise SystemExit("npm is not on the PATH; it comes with Node.js, and fetches the icon sets")
    for package, version, _ in ICON_SETS.values():
        fetch(package, version)
    for package, version in EMOJI_DATA.items():
        fetch(package, version)
    print(f"fetched {len(ICON_SETS) + len(EMOJI_DATA)} packages into {PACKAGES}")


if __name__ == "__main__":
    main()
