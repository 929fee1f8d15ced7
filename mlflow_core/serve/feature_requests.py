"""A request for features while the store is asked: read and checked before, turned into a reply afterwards.

Both halves are plain functions that wait for nothing, so that a task (``routes``) and a connection that has none
(``direct``) go through the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_core.online.answer import Answer
from mlflow_core.online.backend import Found
from mlflow_core.online.reader import Asked as AskedOfStore
from mlflow_core.online.whole import Whole
from mlflow_core.serve.compact import ARROW_STREAM, arrow_body, takes_arrow
from mlflow_core.serve.feast_json import FeastAsked
from mlflow_core.serve.features import reader_of
from mlflow_core.serve.messages import Reply
from mlflow_core.serve.request import Asked, checked_columns, columns_of_rows
from mlflow_core.serve.served import ServedReader, ServedService
from mlflow_core.serve.whole_json import WholeAnswers

__all__ = ["CompactRequest", "FeastRequest", "FeatureRequest"]


class FeatureRequest:
    """A request whose rows are checked.

    Args:
        served: What is asked.
        columns: Checked columns.
        now_us: When TTL counts, microseconds since epoch, UTC.
        times: Whether an answer that is not whole needs the values' times.
        whole: Writes the answer where all of it is whole; None where this request wants another one.

    Attributes:
        asked: What the store is asked.
    """

    __slots__ = ("asked", "columns", "now_us", "served", "times", "whole")

    def __init__(
        self,
        served: ServedReader,
        columns: Mapping[str, Sequence[Any]],
        now_us: int,
        *,
        times: bool,
        whole: WholeAnswers | None,
    ) -> None:
        self.served = served
        self.columns = columns
        self.now_us = now_us
        self.times = times
        self.whole = whole
        n_rows = len(next(iter(columns.values()))) if columns else None
        self.asked: AskedOfStore = served.reader.ask(columns, n_rows=n_rows)

    def wholes(self, found: Sequence[Found]) -> Sequence[Whole] | None:
        """Read what the store found if every value is there (``online.whole``), else None: then it has to be decided.

        Args:
            found: What the store found.
        """
        return None if self.whole is None else self.whole.read(self.asked, found, self.now_us)

    def whole_body(self, writes: WholeAnswers, wholes: Sequence[Whole]) -> bytes:
        """Return the body of the reply that tells whole rows.

        Args:
            writes: What ``whole`` is.
            wholes: What ``wholes`` returned.
        """
        raise NotImplementedError

    def reply(self, answer: Answer) -> Reply:
        """Return the reply that tells an answer."""
        raise NotImplementedError


class FeastRequest(FeatureRequest):
    """A request in Feast's JSON.

    Args:
        body: Its body.
        service: What it asks.
        now_us: When TTL counts, microseconds since epoch, UTC.

    Raises:
        Refusal: Its rows are not what the service reads.
    """

    __slots__ = ("versions",)

    def __init__(self, body: FeastAsked, service: ServedService, now_us: int) -> None:
        served = reader_of(service, full_feature_names=body.full_feature_names)
        columns = checked_columns(service, body.entities)
        super().__init__(served, columns, now_us, times=True, whole=served.whole)
        self.versions = body.versions

    def reply(self, answer: Answer) -> Reply:
        """Return the reply that tells an answer."""
        return Reply(200, self.served.feast.body(answer, self.columns, versions=self.versions))

    def whole_body(self, writes: WholeAnswers, wholes: Sequence[Whole]) -> bytes:
        """Return the body of the reply that tells whole rows; see ``FeatureRequest``."""
        head = self.served.feast.head(self.columns, versions=self.versions)
        return b"%b%b]}" % (head, writes.feast(wholes, self.asked.n_rows))


class CompactRequest(FeatureRequest):
    """A request for ``/v1/features``.

    Args:
        body: Its body.
        accept: Its ``Accept`` header.
        service: What it asks.
        now_us: When TTL counts, microseconds since epoch, UTC.

    Raises:
        Refusal: Its rows are not what the service reads.
    """

    __slots__ = ("arrow", "types")

    def __init__(self, body: Asked, accept: bytes, service: ServedService, now_us: int) -> None:
        served = reader_of(service, full_feature_names=body.full_feature_names)
        self.arrow, self.types = takes_arrow(accept), body.types
        whole = None if self.arrow or body.event_timestamps else served.whole
        columns = columns_of_rows(service, body)
        super().__init__(served, columns, now_us, times=body.event_timestamps, whole=whole)

    def reply(self, answer: Answer) -> Reply:
        """Return the reply that tells an answer."""
        if self.arrow:
            return Reply(200, arrow_body(answer, times=self.times), ARROW_STREAM)
        return Reply(200, self.served.compact.body(answer, times=self.times, types=self.types))

    def whole_body(self, writes: WholeAnswers, wholes: Sequence[Whole]) -> bytes:
        """Return the body of the reply that tells whole rows; see ``FeatureRequest``."""
        return writes.compact(wholes, self.asked.n_rows, types=self.types)
