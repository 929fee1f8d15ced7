"""From where changes are looked for: which parts of a source count as new, and when nobody can say."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.engine.views.changes import Delta, Since, delta_of, part_names
from mlflow_core.sources import open_source
from mlflow_core.spec import Entity, FeatureView, ParquetSource


def test_parts_in_another_order_are_another_source_because_of_two_events_of_one_time_the_later_row_counts(
    tmp_path: Path,
) -> None:
    (tmp_path / "events").mkdir()
    for name in ("a", "b", "c"):
        rows = {"k": [1], "x": [name], "t": pa.array([5]).cast(pa.timestamp("us", "UTC"))}
        pq.write_table(pa.table(rows), tmp_path / "events" / f"{name}.parquet")
    source = ParquetSource("events", path="events", event_time="t")
    view = FeatureView("latest", entity=Entity("k"), source=source, features=["x"])
    first, between, last = open_source(source, str(tmp_path)).parts()
    before = Since(7, part_names([first, last]))

    assert delta_of(view, before, 9, [first, last]) == Delta(7, (False, False))
    assert delta_of(view, before, 9, [first, between, last]) == Delta(7, (False, True, False))
    why = "the source was changed and does not say when its rows were known"
    assert delta_of(view, before, 9, [last, first]) == why
    assert delta_of(view, before, 9, [last, between, first]) == why
    assert delta_of(view, before, 9, [last]) == why
