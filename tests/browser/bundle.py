"""Build the page that shows a dashboard, once for each state of the parts it is made of."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PARTS = ("package.json", "package-lock.json", "page.jsx", "index.html")


def build(source: Path, cache: Path) -> Path:
    """Return a folder below `cache` with `page/` and `node_modules/playwright-core`.

    What is there for the same parts is taken as it is. Of the half gigabyte of packages only the
    page built from them and the browser's driver stay.
    """
    digest = hashlib.sha256()
    for name in _PARTS:
        digest.update((source / name).read_bytes())
    ready = cache / digest.hexdigest()[:16]
    if ready.is_dir():
        return ready
    shutil.rmtree(cache, ignore_errors=True)
    work = cache / "building"
    work.mkdir(parents=True)
    for name in _PARTS:
        shutil.copy(source / name, work)
    # esbuild needs no install script: its program comes as a package of its own.
    _run(work, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    _run(
        work, "node_modules/.bin/esbuild", "page.jsx", "--bundle", "--format=esm", "--minify",
        "--jsx=automatic", '--define:process.env.NODE_ENV="production"', "--outfile=page/page.js",
    )  # fmt: skip
    shutil.copy(work / "index.html", work / "page")
    (work / "node_modules" / "playwright-core").rename(work / "playwright-core")
    shutil.rmtree(work / "node_modules")
    (work / "node_modules").mkdir()
    (work / "playwright-core").rename(work / "node_modules" / "playwright-core")
    work.rename(ready)
    return ready


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")
