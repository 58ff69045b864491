"""How often a process of this program looks for cyclic garbage: seldom."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Leave what exists now out of every collection, and collect after 100,000 new objects.

    Records and queries hold no cycles, and there are a million of them in a second or two: looking
    for cycles among them costs a tenth of the speed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
