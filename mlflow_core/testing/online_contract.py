"""What every online backend must pass: versions, erasure, definitions, projects, order, threads.

Subclass ``OnlineBackendContract`` in a test module and give it a fixture ``open_backend`` that opens a backend
on one and the same empty store for a project and a clock: each test runs against your backend.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence

import pytest

from mlflow_core.config.clock import Clock, FixedClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import OnlineBackend, StoredRow
from mlflow_core.online.codec import VERSION, Kind

__all__ = ["OLD_SCHEMA", "OnlineBackendContract", "OpenBackend", "packed", "stored"]

OpenBackend = Callable[[str, Clock], OnlineBackend]
OLD_SCHEMA = b"schema-A"
_NEW_SCHEMA = b"schema-B"
_NOW = FixedClock(1_000)


def packed(payload: str, schema: bytes = OLD_SCHEMA) -> bytes:
    """Return bytes with the codec's header of a row and any payload."""
    return bytes([VERSION, Kind.ROW]) + schema + bytes(8) + payload.encode()


def stored(
    key: bytes, time: int, sequence: int = 0, payload: str | None = None, schema: bytes = OLD_SCHEMA
) -> StoredRow:
    """Return a row whose payload tells its version, unless one is given."""
    return StoredRow(key, time, sequence, packed(payload or f"{time}.{sequence}", schema))


def _one(backend: OnlineBackend, key: bytes, view: str = "v") -> StoredRow | None:
    return backend.read([(view, [key])])[0][0]


class OnlineBackendContract:
    """The tests; ``open_backend`` opens the same store again for another project or clock."""

    @pytest.fixture
    def open_backend(self) -> OpenBackend:
        """Open a backend on this test's store; override it."""
        raise NotImplementedError("give your test class a fixture open_backend(project, clock)")

    @pytest.fixture
    def backend(self, open_backend: OpenBackend) -> OnlineBackend:
        """A backend for project ``p`` at time 1,000."""
        return open_backend("p", _NOW)

    def test_a_store_nobody_wrote_to_knows_no_key(self, backend: OnlineBackend) -> None:
        """Reading needs no view, no table and no write before it."""
        assert backend.read([("v", [b"a", b"b"]), ("w", [])]) == [[None, None], []]
        assert backend.read([]) == []

    def test_rows_come_back_in_the_order_asked_with_repeats(self, backend: OnlineBackend) -> None:
        """Several views, one read; unsorted and repeated keys."""
        rows = {key: stored(key, 5) for key in (b"a", b"b", b"", b"\xff\x00")}
        assert backend.write("v", list(rows.values())) == 4
        assert backend.write("w", [stored(b"a", 9)]) == 1
        asked = [b"\xff\x00", b"a", b"missing", b"a", b""]
        assert backend.read([("w", [b"a", b"b"]), ("v", asked)]) == [
            [stored(b"a", 9), None],
            [rows.get(key) for key in asked],
        ]

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    def test_the_greatest_version_wins_in_any_order(
        self, backend: OnlineBackend, order: Sequence[int]
    ) -> None:
        """Time first, then sequence; negative times are times."""
        versions = [stored(b"k", -7, 9), stored(b"k", 5, 0), stored(b"k", 5, 2), stored(b"k", 5, 1)]
        for i in order:
            backend.write("v", [versions[i]])
        assert _one(backend, b"k") == versions[2]

    def test_an_equal_version_changes_nothing(self, backend: OnlineBackend) -> None:
        """So a replay is harmless, and counted as no change."""
        assert backend.write("v", [stored(b"k", 5, 1, "first")]) == 1
        assert backend.write("v", [stored(b"k", 5, 1, "again"), stored(b"k", 5, 0, "older")]) == 0
        assert _one(backend, b"k") == stored(b"k", 5, 1, "first")

    def test_any_batches_and_replays_leave_the_greatest_version_of_each_key(
        self, backend: OnlineBackend
    ) -> None:
        """Random writes against a dictionary, seed 20130101."""
        rng = random.Random(20130101)
        truth: dict[bytes, StoredRow] = {}
        for _ in range(60):
            batch = [
                stored(bytes([rng.randrange(12)]), rng.randrange(6), rng.randrange(3))
                for _ in range(rng.randrange(9))
            ]
            for row in batch:
                if row.key not in truth or row.version > truth[row.key].version:
                    truth[row.key] = row
            backend.write("v", batch)
            if rng.random() < 0.3:
                backend.write("v", batch)
        keys = [bytes([i]) for i in range(13)]
        assert backend.read([("v", keys)])[0] == [truth.get(key) for key in keys]

    def test_more_keys_than_fit_one_statement_are_read_all(self, backend: OnlineBackend) -> None:
        """40,000 keys over 3 views."""
        keys = [i.to_bytes(3, "big") for i in range(40_000)]
        for view in ("v", "w"):
            backend.write(view, [stored(key, i) for i, key in enumerate(keys)])
        some = keys[::7]
        found = backend.read([("v", keys), ("nothing", some), ("w", some)])
        assert [row and row.time for row in found[0]] == list(range(40_000))
        assert found[1] == [None] * len(some)
        assert [row and row.key for row in found[2]] == some

    def test_an_erased_key_stays_erased_until_something_newer_is_written(
        self, open_backend: OpenBackend
    ) -> None:
        """The tombstone beats every version up to its moment, whatever schema it has."""
        backend = open_backend("p", _NOW)
        backend.write("v", [stored(b"k", 990), stored(b"other", 990)])
        assert backend.erase([("v", [b"k", b"never seen"]), ("w", [b"k"])]) == 1
        for time, schema in ((990, OLD_SCHEMA), (1_000, OLD_SCHEMA), (999, _NEW_SCHEMA)):
            assert backend.write("v", [stored(b"k", time, 10**15, schema=schema)]) == 0
            row = _one(backend, b"k")
            assert row is not None
            assert row.erased
        assert backend.write("v", [stored(b"k", 1_001, schema=_NEW_SCHEMA)]) == 1
        assert backend.erase([("v", [b"k"])]) == 1
        assert backend.write("v", [stored(b"never seen", 1_000, schema=_NEW_SCHEMA)]) == 0
        assert _one(backend, b"other") == stored(b"other", 990)

    def test_an_erased_key_of_a_later_version_is_beaten_too(self, backend: OnlineBackend) -> None:
        """A value from the future of the clock goes as well, and does not return by a replay."""
        backend.write("v", [stored(b"k", 5_000)])
        assert backend.erase([("v", [b"k"])]) == 1
        assert backend.write("v", [stored(b"k", 5_000, 7)]) == 0

    def test_a_row_of_a_new_schema_replaces_an_old_one_whatever_its_version(
        self, backend: OnlineBackend
    ) -> None:
        """The old row can no longer be read; after that the greater version wins again."""
        backend.write("v", [stored(b"k", 50), stored(b"untouched", 50)])
        assert backend.write("v", [stored(b"k", 40, schema=_NEW_SCHEMA)]) == 1
        assert backend.write("v", [stored(b"k", 39, schema=_NEW_SCHEMA)]) == 0
        assert _one(backend, b"k") == stored(b"k", 40, schema=_NEW_SCHEMA)
        assert _one(backend, b"untouched") == stored(b"untouched", 50)

    def test_a_late_writer_of_a_replaced_definition_is_refused(self, backend: OnlineBackend) -> None:
        """Its rows would bury what the current definition wrote."""
        backend.write("v", [stored(b"k", 50)])
        backend.write("v", [stored(b"k", 40, schema=_NEW_SCHEMA)])
        with pytest.raises(StoreError, match="definition that has been replaced"):
            backend.write("v", [stored(b"k", 60)])
        assert _one(backend, b"k") == stored(b"k", 40, schema=_NEW_SCHEMA)

    def test_declaring_a_definition_again_makes_it_current(self, backend: OnlineBackend) -> None:
        """Somebody who goes back to an earlier definition says so by applying it."""
        backend.write("v", [stored(b"k", 50)])
        backend.declare("v", _NEW_SCHEMA)
        with pytest.raises(StoreError, match="definition that has been replaced"):
            backend.write("v", [stored(b"k", 60)])
        backend.declare("v", OLD_SCHEMA)
        backend.declare("v", OLD_SCHEMA)
        assert backend.write("v", [stored(b"k", 60)]) == 1

    def test_projects_do_not_see_each_other(self, open_backend: OpenBackend) -> None:
        """The same view and key in two projects are two rows, in reads, erasure, definitions and drops."""
        ours, theirs = open_backend("p", _NOW), open_backend("p2", _NOW)
        ours.write("v", [stored(b"k", 5)])
        theirs.write("v", [stored(b"k", 6, schema=_NEW_SCHEMA)])
        assert _one(ours, b"k") == stored(b"k", 5)
        ours.erase([("v", [b"k"])])
        ours.drop()
        assert _one(ours, b"k") is None
        assert _one(theirs, b"k") == stored(b"k", 6, schema=_NEW_SCHEMA)

    def test_a_dropped_view_starts_afresh_and_others_stay(self, backend: OnlineBackend) -> None:
        """Rows and definitions go; an unknown view is nothing to drop."""
        backend.write("v", [stored(b"k", 50)])
        backend.write("w", [stored(b"k", 50)])
        backend.drop(["v", "never there"])
        assert _one(backend, b"k") is None
        assert _one(backend, b"k", "w") == stored(b"k", 50)
        assert backend.write("v", [stored(b"k", 1)]) == 1

    def test_rows_of_two_schemas_are_not_written_at_once(self, backend: OnlineBackend) -> None:
        """Neither of them is."""
        with pytest.raises(StoreError, match="2 schemas"):
            backend.write("v", [stored(b"a", 1), stored(b"b", 1, schema=_NEW_SCHEMA)])
        assert backend.read([("v", [b"a", b"b"])]) == [[None, None]]

    def test_a_failed_write_leaves_everything_as_it_was(self, backend: OnlineBackend) -> None:
        """A version that is no int64 in the middle of a batch."""
        backend.write("v", [stored(b"k", 5)])
        with pytest.raises(StoreError):
            backend.write("v", [stored(b"k", 6), stored(b"l", 2**63, payload="x")])
        assert backend.read([("v", [b"k", b"l"])]) == [[stored(b"k", 5), None]]
        assert backend.write("v", [stored(b"k", 6)]) == 1

    def test_threads_write_and_read_one_backend(self, backend: OnlineBackend) -> None:
        """Eight threads, one key each and one in common: the greatest version of each is there."""
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for time in range(20):
                    backend.write("v", [stored(bytes([number]), time), stored(b"common", time, number)])
                    assert _one(backend, bytes([number])) == stored(bytes([number]), time)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert _one(backend, b"common") == stored(b"common", 19, 7)
