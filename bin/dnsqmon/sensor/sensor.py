"""Frames to records: decode, then score, with the lists kept fresh and the seen domains kept."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from dnsqmon.core.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dnsqmon.core.counters import Counters
    from dnsqmon.core.record import FrameBatch, Query, Record
    from dnsqmon.score.first_seen import FirstSeen
    from dnsqmon.score.lists import Lists
    from dnsqmon.score.scorer import Scorer

log = logging.getLogger(__name__)


class FrameDecoder(Protocol):
    """What turns the batches of a source into queries: `decode.Decoder`, here or elsewhere."""

    def decode(self, batch: Any) -> list[Query]:  # noqa: ANN401 - what the source yields
        """Return the queries of a batch, and count what is none."""

    def finish(self) -> None:
        """Come to an end after the last batch."""


class Sensor:
    """The stages between a source of frames and the sinks."""

    def __init__(
        self,
        decoder: FrameDecoder,
        scorer: Scorer,
        lists: Lists,
        first_seen: FirstSeen,
        counters: Counters,
    ) -> None:
        self.lists = lists
        self.first_seen = first_seen
        self._decoder = decoder
        self._scorer = scorer
        self._counters = counters
        self._reload = False

    def take(self, batch: FrameBatch) -> list[Record]:
        """Return the records of a batch, and count what was none."""
        records = self._scorer.score(self._decoder.decode(batch))
        self._counters.records += len(records)
        return records

    def reload(self) -> None:
        """Load the lists again with the next batch; called from a signal handler."""
        self._reload = True

    def keep_up(self) -> None:
        """Do what is due between two batches: reload changed lists, save the domains seen."""
        force = self._reload
        if force:  # a request that comes from here on is not forgotten
            self._reload = False
        if self.lists.reload_if_changed(time.monotonic(), force=force):
            self._scorer.lists_changed()
        try:
            self.first_seen.save_if_due()
        except SinkError as error:
            log.warning("%s", error)

    def counts(self) -> Mapping[str, int]:
        """Say how many second-level domains are remembered, and how many had to be forgotten."""
        return {
            "first_seen_domains": len(self.first_seen.sites),
            "first_seen_evicted": self.first_seen.evicted,
        }

    def finish(self) -> None:
        """Count what waits for its rest as lost, and save the domains seen; may raise SinkError."""
        self._decoder.finish()
        self.first_seen.close()
