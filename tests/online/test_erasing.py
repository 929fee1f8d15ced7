"""Burying erased entities: under their own keys, under keys that hold theirs, now and again."""

from __future__ import annotations

import pytest

from mlflow_core.config import FixedClock
from mlflow_core.online.backend import Ask, OnlineTable
from mlflow_core.online.erasing import bury, unerased
from mlflow_core.online.head import is_tombstone
from mlflow_core.online.keys import encode_key
from mlflow_core.online.reached import Reached, note_reached, read_reached
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.plan.erasures import Erasure, Erasures
from mlflow_core.testing.online_contract import OLD_SCHEMA, packed

PERSON = OnlineTable("person", ("k",))
PAIR = OnlineTable("pair", ("m", "k"))
PLACE = OnlineTable("place", ("m",))
TABLES = (PERSON, PAIR, PLACE)
ANNA = Erasures.of([Erasure(("k",), ("anna",), 1_000)])


@pytest.fixture
def backend(tmp_path):
    opened = SqliteBackend(tmp_path / "online.db", "p", FixedClock(1_000))
    for table, keys in {
        PERSON: [("anna",), ("bert",)],
        PAIR: [(1, "anna"), (1, "bert"), (2, "anna"), (3, "anna")],
        PLACE: [(1,), (2,)],
    }.items():
        opened.write(table, [(encode_key(key), packed(900, 0, "x")) for key in keys])
        note_reached(opened, table, OLD_SCHEMA, Reached(900, "f"))
    yield opened
    opened.close()


def gone(backend, table, *key) -> bool | None:
    """Whether a key's value is a tombstone; None for one never written."""
    [[[value]]] = backend.read([Ask(table.keys, (table.view,), [encode_key(key)])])
    return None if value is None else is_tombstone(value)


def test_a_person_goes_from_every_view_whose_keys_hold_the_person(backend):
    assert bury(backend, TABLES, ANNA) == {"person": 1, "pair": 3}

    assert [gone(backend, PAIR, place, "anna") for place in (1, 2, 3)] == [True] * 3
    assert gone(backend, PERSON, "anna") is True
    assert (gone(backend, PERSON, "bert"), gone(backend, PAIR, 1, "bert")) == (False, False)
    assert gone(backend, PLACE, 1) is False
    assert read_reached(backend, PAIR, OLD_SCHEMA) == Reached(900, "f")
    assert bury(backend, TABLES, ANNA) == {"person": 0, "pair": 0}


def test_a_whole_composite_key_is_found_in_whichever_order_it_is_told(backend):
    told = Erasures.of([Erasure(("k", "m"), ("anna", 2), 1_000), Erasure(("k", "m"), ("nobody", 9), 1_000)])

    assert bury(backend, TABLES, told) == {"pair": 1}

    assert [gone(backend, PAIR, place, "anna") for place in (1, 2, 3)] == [False, True, False]
    assert gone(backend, PAIR, 9, "nobody") is True


def test_keys_of_another_type_are_others(backend):
    told = Erasures.of([Erasure(("m",), ("1",), 1_000)])

    assert bury(backend, TABLES, told) == {"pair": 0, "place": 0}
    assert gone(backend, PLACE, 1) is False


def test_burying_again_gives_back_tombstones_and_takes_nothing_that_is_newer(backend):
    backend.write(PAIR, [(encode_key((3, "anna")), packed(1_001, 0, "new"))])
    backend.drop(["person"])

    assert bury(backend, TABLES, ANNA, again=True) == {"person": 0, "pair": 2}

    assert gone(backend, PERSON, "anna") is True
    assert gone(backend, PERSON, "bert") is None
    assert [gone(backend, PAIR, place, "anna") for place in (1, 2, 3)] == [True, True, False]
    assert backend.write(PERSON, [(encode_key(("anna",)), packed(1_000, 5, "old"))]) == 0
    assert backend.write(PERSON, [(encode_key(("anna",)), packed(1_001, 0, "new"))]) == 1


def test_many_entities_of_several_moments_are_buried_at_their_own(backend):
    told = Erasures.of(Erasure(("k",), (f"p{i}",), 100 + i % 3) for i in range(2_500))

    assert bury(backend, [PERSON], told, again=True) == {"person": 0}

    for i in (0, 1, 2, 2_499):
        assert gone(backend, PERSON, f"p{i}") is True
        assert backend.write(PERSON, [(encode_key((f"p{i}",)), packed(100 + i % 3, 0, "x"))]) == 0
        assert backend.write(PERSON, [(encode_key((f"p{i}",)), packed(101 + i % 3, 0, "x"))]) == 1


def test_rows_that_come_late_are_left_out_under_whole_and_longer_keys():
    def row(table, *key, at):
        return encode_key(key), packed(at, 7, "x")

    told = Erasures.of([*ANNA.entries, Erasure(("k", "m"), ("bert", 1), 500)])
    rows = [row(PAIR, 1, "anna", at=at) for at in (999, 1_000, 1_001)]
    rows += [row(PAIR, 1, "bert", at=at) for at in (500, 501)] + [row(PAIR, 2, "bert", at=1)]

    assert unerased(PAIR, rows, told) == [rows[2], rows[4], rows[5]]
    assert unerased(PLACE, rows, told) is rows
