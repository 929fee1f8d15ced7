"""What every online backend must pass: versions, erasure, definitions, projects, order, threads.

Subclass ``OnlineBackendContract`` in a test module and give it a fixture ``open_backend`` that opens a backend
on one and the same empty store for a project and a clock: each test runs against your backend.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import random
import threading
from collections.abc import Callable, Sequence

import pytest

from mlflow_core.config.clock import Clock, FixedClock
from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, AsyncReads, Found, OnlineBackend, OnlineTable, Row
from mlflow_core.online.head import LAYOUT, Kind, is_tombstone, version_bytes

__all__ = ["OLD_SCHEMA", "OnlineBackendContract", "OpenBackend", "packed", "stored"]

OpenBackend = Callable[[str, Clock], OnlineBackend]
OLD_SCHEMA = b"schema-A"
_NEW_SCHEMA = b"schema-B"
_NOW = FixedClock(1_000)
_ENTITY = ("carrier",)
_V, _W = OnlineTable("v", _ENTITY), OnlineTable("w", _ENTITY)
_ROUTES = OnlineTable("routes", ("origin", "dest"))


def packed(time: int, sequence: int, payload: str, schema: bytes = OLD_SCHEMA) -> bytes:
    """Return bytes with the codec's header of a row and any payload."""
    return version_bytes(time, sequence) + bytes([LAYOUT, Kind.ROW]) + schema + payload.encode()


def stored(
    key: bytes, time: int, sequence: int = 0, payload: str | None = None, schema: bytes = OLD_SCHEMA
) -> Row:
    """Return a row whose payload tells its version, unless one is given."""
    return key, packed(time, sequence, payload or f"{time}.{sequence}", schema)


def _ask(keys: Sequence[bytes], *views: str) -> Ask:
    return Ask(_ENTITY, views or ("v",), keys)


def _one(backend: OnlineBackend, key: bytes, view: str = "v") -> bytes | None:
    return backend.read([_ask([key], view)])[0][0][0]


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
        found = backend.read([_ask([b"a", b"b"], "v", "w"), Ask(("x", "y"), ("z",), [])])
        assert [[list(row) for row in one] for one in found] == [[[None, None], [None, None]], []]
        assert backend.read([]) == []
        assert backend.unfinished() == {}

    def test_rows_come_back_in_the_order_asked_with_repeats(self, backend: OnlineBackend) -> None:
        """Several entities and views, one read; unsorted and repeated keys; any bytes."""
        rows = dict(stored(key, 5) for key in (b"a", b"b", b"", b"\xff\x00", b":%*?[x]\\"))
        assert backend.write(_V, list(rows.items())) == 5
        assert backend.write(_W, [stored(b"a", 9)]) == 1
        assert backend.write(_ROUTES, [stored(b"a", 3)]) == 1
        asked = [b"\xff\x00", b"a", b"missing", b"a", b"", b":%*?[x]\\"]
        routes, both = backend.read([Ask(_ROUTES.keys, ("routes",), [b"a", b"b"]), _ask(asked, "w", "v")])
        assert [list(row) for row in routes] == [[stored(b"a", 3)[1]], [None]]
        w = {b"a": stored(b"a", 9)[1]}
        assert [list(row) for row in both] == [[w.get(key), rows.get(key)] for key in asked]

    def test_one_key_of_two_entities_is_two_rows(self, backend: OnlineBackend) -> None:
        """Also where one entity's columns, joined, read like the other's."""
        one, other = OnlineTable("one", ("a,b",)), OnlineTable("other", ("a", "b"))
        backend.write(one, [stored(b"k", 1)])
        backend.write(other, [stored(b"k", 2)])
        found = backend.read([Ask(one.keys, ("one",), [b"k"]), Ask(other.keys, ("other",), [b"k"])])
        assert [[list(row) for row in ask] for ask in found] == [
            [[stored(b"k", 1)[1]]],
            [[stored(b"k", 2)[1]]],
        ]

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    def test_the_greatest_version_wins_in_any_order(
        self, backend: OnlineBackend, order: Sequence[int]
    ) -> None:
        """Time first, then sequence; negative times are times."""
        versions = [
            stored(b"k", -7, 9),
            stored(b"k", 5, -1),
            stored(b"k", 5, 2**62),
            stored(b"k", 5, 2**62 - 1),
        ]
        for i in order:
            backend.write(_V, [versions[i]])
        assert _one(backend, b"k") == versions[2][1]

    def test_an_equal_version_changes_nothing(self, backend: OnlineBackend) -> None:
        """So a replay is harmless, and counted as no change."""
        assert backend.write(_V, [stored(b"k", 5, 1, "first")]) == 1
        assert backend.write(_V, [stored(b"k", 5, 1, "again"), stored(b"k", 5, 0, "older")]) == 0
        assert _one(backend, b"k") == stored(b"k", 5, 1, "first")[1]

    def test_of_rows_of_one_version_written_at_once_the_last_counts(self, backend: OnlineBackend) -> None:
        """As of two events of one time the later row of the source does, whatever their bytes are."""
        backend.write(
            _V,
            [
                stored(b"m", 5, 0, "b"),
                stored(b"n", 5, 0, "a"),
                stored(b"m", 5, 0, "a"),
                stored(b"n", 5, 0, "b"),
                stored(b"n", 4, 9, "c"),
            ],
        )
        assert _one(backend, b"m") == stored(b"m", 5, 0, "a")[1]
        assert _one(backend, b"n") == stored(b"n", 5, 0, "b")[1]

    def test_any_batches_and_replays_leave_the_greatest_version_of_each_key(
        self, backend: OnlineBackend
    ) -> None:
        """Random writes against a dictionary, seed 20130101."""
        rng = random.Random(20130101)
        truth: dict[bytes, bytes] = {}
        for _ in range(60):
            batch = [
                stored(bytes([rng.randrange(12)]), rng.randrange(6), rng.randrange(3))
                for _ in range(rng.randrange(9))
            ]
            for key, value in batch:
                if key not in truth or value[:16] > truth[key][:16]:
                    truth[key] = value
            backend.write(_V, batch)
            if rng.random() < 0.3:
                backend.write(_V, batch)
        keys = [bytes([i]) for i in range(13)]
        assert [row[0] for row in backend.read([_ask(keys)])[0]] == [truth.get(key) for key in keys]

    def test_more_keys_than_fit_one_statement_are_written_and_read_all(self, backend: OnlineBackend) -> None:
        """40,000 keys over 3 views."""
        keys = [i.to_bytes(3, "big") for i in range(40_000)]
        rows = [stored(key, i) for i, key in enumerate(keys)]
        for table in (_V, _W):
            assert backend.write(table, rows) == 40_000
        assert backend.write(_V, rows[::3]) == 0
        found = backend.read([_ask(keys, "v", "nothing"), _ask(keys[::7], "w")])
        assert [row[0] for row in found[0]] == [value for _, value in rows]
        assert {row[1] for row in found[0]} == {None}
        assert [row[0] for row in found[1]] == [value for _, value in rows[::7]]

    def test_an_erased_key_stays_erased_until_something_newer_is_written(
        self, open_backend: OpenBackend
    ) -> None:
        """The tombstone beats every version up to its moment, whatever schema it has."""
        backend = open_backend("p", _NOW)
        backend.write(_V, [stored(b"k", 990), stored(b"other", 990)])
        assert backend.erase([_ask([b"k", b"never seen"], "v", "w")]) == 1
        for time, schema in ((990, OLD_SCHEMA), (1_000, OLD_SCHEMA), (999, _NEW_SCHEMA)):
            assert backend.write(_V, [stored(b"k", time, 10**15, schema=schema)]) == 0
            found = _one(backend, b"k")
            assert found is not None
            assert is_tombstone(found)
        assert backend.write(_V, [stored(b"k", 1_001, schema=_NEW_SCHEMA)]) == 1
        assert backend.erase([_ask([b"k"])]) == 1
        assert backend.write(_V, [stored(b"never seen", 1_000, schema=_NEW_SCHEMA)]) == 0
        assert _one(backend, b"other") == stored(b"other", 990)[1]

    def test_an_erased_key_of_a_later_version_is_beaten_too(self, backend: OnlineBackend) -> None:
        """A value from the future of the clock goes as well, and does not return by a replay."""
        backend.write(_V, [stored(b"k", 5_000)])
        assert backend.erase([_ask([b"k"])]) == 1
        assert backend.erase([_ask([b"k"])]) == 0
        assert backend.write(_V, [stored(b"k", 5_000, 7)]) == 0

    def test_an_erasure_of_before_leaves_later_versions_alone(self, backend: OnlineBackend) -> None:
        """A tombstone is put back where a store has lost it, and takes nothing that was written since."""
        backend.write(_V, [stored(b"old", 40), stored(b"same", 50), stored(b"new", 51, schema=OLD_SCHEMA)])
        assert backend.erase([_ask([b"old", b"same", b"new", b"never seen"])], 50) == 2
        assert _one(backend, b"new") == stored(b"new", 51)[1]
        assert backend.write(_V, [stored(key, 50, 10**15) for key in (b"old", b"same", b"never seen")]) == 0
        assert backend.erase([_ask([b"old", b"never seen"])], 30) == 0
        assert backend.write(_V, [stored(b"old", 50, 10**15)]) == 0
        assert backend.write(_V, [stored(b"old", 51), stored(b"never seen", 51)]) == 2

    def test_the_keys_of_a_view_are_gone_through_and_no_others(self, open_backend: OpenBackend) -> None:
        """Of one view of one project, in no order; erased ones too."""
        backend, theirs = open_backend("p", _NOW), open_backend("p2", _NOW)
        assert list(backend.keys(_V)) == []
        mine = [i.to_bytes(3, "big") for i in range(21_000)] + [b"", b"*", b"a:b", bytes(range(256))]
        backend.write(_V, [stored(key, 5) for key in mine])
        backend.write(_W, [stored(b"w", 5)])
        backend.write(_ROUTES, [stored(b"r", 5)])
        theirs.write(_V, [stored(b"theirs", 5)])
        backend.erase([_ask([b"erased"])])
        assert set(backend.keys(_V)) == {*mine, b"erased"}
        assert set(backend.keys(_W)) == {b"w"}
        assert set(backend.keys(_ROUTES)) == {b"r"}

    def test_a_row_of_a_new_schema_replaces_an_old_one_whatever_its_version(
        self, backend: OnlineBackend
    ) -> None:
        """The old row can no longer be read; after that the greater version wins again."""
        backend.write(_V, [stored(b"k", 50), stored(b"untouched", 50)])
        assert backend.write(_V, [stored(b"k", 40, schema=_NEW_SCHEMA)]) == 1
        assert backend.write(_V, [stored(b"k", 39, schema=_NEW_SCHEMA)]) == 0
        assert _one(backend, b"k") == stored(b"k", 40, schema=_NEW_SCHEMA)[1]
        assert _one(backend, b"untouched") == stored(b"untouched", 50)[1]

    def test_a_late_writer_of_a_replaced_definition_is_refused(self, backend: OnlineBackend) -> None:
        """Its rows would bury what the current definition wrote."""
        backend.write(_V, [stored(b"k", 50)])
        backend.write(_V, [stored(b"k", 40, schema=_NEW_SCHEMA)])
        with pytest.raises(StoreError, match="definition that has been replaced"):
            backend.write(_V, [stored(b"k", 60), stored(b"fresh", 60)])
        assert _one(backend, b"k") == stored(b"k", 40, schema=_NEW_SCHEMA)[1]
        assert _one(backend, b"fresh") is None

    def test_declaring_a_definition_again_makes_it_current(self, backend: OnlineBackend) -> None:
        """Somebody who goes back to an earlier definition says so by applying it."""
        backend.write(_V, [stored(b"k", 50)])
        backend.declare(_V, _NEW_SCHEMA)
        with pytest.raises(StoreError, match="definition that has been replaced"):
            backend.write(_V, [stored(b"k", 60)])
        backend.declare(_V, OLD_SCHEMA)
        backend.declare(_V, OLD_SCHEMA)
        assert backend.write(_V, [stored(b"k", 60)]) == 1

    def test_projects_do_not_see_each_other(self, open_backend: OpenBackend) -> None:
        """The same view and key in two projects are two rows, in reads, erasure, definitions and drops."""
        ours, theirs = open_backend("p", _NOW), open_backend("p2", _NOW)
        longer = open_backend("p:carrier", _NOW)
        ours.write(_V, [stored(b"k", 5)])
        theirs.write(_V, [stored(b"k", 6, schema=_NEW_SCHEMA)])
        longer.write(_V, [stored(b"k", 7)])
        theirs.begin(_V, 9)
        assert _one(ours, b"k") == stored(b"k", 5)[1]
        ours.erase([_ask([b"k"])])
        ours.drop()
        assert _one(ours, b"k") is None
        assert ours.unfinished() == {}
        assert _one(theirs, b"k") == stored(b"k", 6, schema=_NEW_SCHEMA)[1]
        assert _one(longer, b"k") == stored(b"k", 7)[1]
        assert theirs.unfinished() == {"v": 9}

    def test_a_dropped_view_starts_afresh_and_others_stay(self, backend: OnlineBackend) -> None:
        """Rows, definitions and marks go; an unknown view is nothing to drop."""
        backend.write(_V, [stored(b"k", 50)])
        backend.write(_W, [stored(b"k", 50)])
        backend.begin(_V, 50)
        backend.begin(_W, 50)
        backend.drop(["v", "never there"])
        assert _one(backend, b"k") is None
        assert _one(backend, b"k", "w") == stored(b"k", 50)[1]
        assert backend.unfinished() == {"w": 50}
        assert backend.write(_V, [stored(b"k", 1)]) == 1

    def test_what_has_begun_and_not_finished_is_told(self, backend: OnlineBackend) -> None:
        """The end of a later boundary ends an earlier one too; the end of an earlier one ends nothing later."""
        backend.begin(_V, 100)
        backend.begin(_W, 100)
        assert backend.unfinished() == {"v": 100, "w": 100}
        backend.finish(_V, 100)
        backend.finish(_W, 200)
        assert backend.unfinished() == {}
        backend.begin(_V, 300)
        backend.finish(_V, 200)
        assert backend.unfinished() == {"v": 300}

    def test_a_run_for_an_earlier_boundary_does_not_hide_one_that_was_killed(
        self, backend: OnlineBackend
    ) -> None:
        """What was left half new at 200 stays so until a run of 200 or later has ended."""
        backend.begin(_V, 200)
        backend.begin(_V, 100)
        backend.finish(_V, 100)
        assert backend.unfinished() == {"v": 200}
        backend.finish(_V, 200)
        assert backend.unfinished() == {}

    def test_rows_of_two_schemas_are_not_written_at_once(self, backend: OnlineBackend) -> None:
        """Neither of them is."""
        with pytest.raises(StoreError, match="2 schemas"):
            backend.write(_V, [stored(b"a", 1), stored(b"b", 1, schema=_NEW_SCHEMA)])
        assert [list(row) for row in backend.read([_ask([b"a", b"b"])])[0]] == [[None], [None]]

    def test_threads_write_and_read_one_backend(self, backend: OnlineBackend) -> None:
        """Eight threads, one key each and one in common: the greatest version of each is there."""
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for time in range(20):
                    backend.write(_V, [stored(bytes([number]), time), stored(b"common", time, number)])
                    assert _one(backend, bytes([number])) == stored(bytes([number]), time)[1]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert _one(backend, b"common") == stored(b"common", 19, 7)[1]

    def test_a_pickled_backend_opens_the_same_store(self, backend: OnlineBackend) -> None:
        """Workers of a cluster are given the backend itself."""
        backend.write(_V, [stored(b"k", 5)])
        again = pickle.loads(pickle.dumps(backend))
        try:
            assert _one(again, b"k") == stored(b"k", 5)[1]
        finally:
            again.close()

    def test_many_reads_at_once_on_an_event_loop_get_each_its_own(self, backend: OnlineBackend) -> None:
        """Where the backend reads without blocking; 200 reads share its connection."""
        if not isinstance(backend, AsyncReads):
            return
        keys = [i.to_bytes(2, "big") for i in range(200)]
        backend.write(_V, [stored(key, i) for i, key in enumerate(keys)])
        backend.write(_ROUTES, [stored(keys[0], 7)])

        async def read() -> list[list[Found]]:
            try:
                asks = [
                    [_ask(keys[: i + 1], "w", "v"), Ask(_ROUTES.keys, ("routes",), [keys[0]])]
                    for i in range(200)
                ]
                return await asyncio.gather(*map(backend.read_async, asks))
            finally:
                await backend.close_async()

        for i, (many, routes) in enumerate(asyncio.run(read())):
            assert [list(row) for row in many] == [
                [None, stored(key, j)[1]] for j, key in enumerate(keys[: i + 1])
            ]
            assert [list(row) for row in routes] == [[stored(keys[0], 7)[1]]]
