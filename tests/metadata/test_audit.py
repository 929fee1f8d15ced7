"""The audit chain: a changed, missing, reordered or cut-off row is found."""

from __future__ import annotations

import pytest

from mlflow_core.metadata import AuditReport, MetadataStore
from tests.metadata.conftest import Raw


def ten_rows(store: MetadataStore) -> None:
    for n in range(10):
        store.record_audit("test", f"thing:{n}", {"n": n, "text": "é"})


def after(store: MetadataStore, raw: Raw, *statements: str) -> AuditReport:
    ten_rows(store)
    assert store.audit_verify().ok
    raw(*statements)
    return store.audit_verify()


def found(report: AuditReport) -> list[tuple[int, str]]:
    return [(problem.seq, problem.kind) for problem in report.problems]


def test_an_untouched_chain_is_whole(store: MetadataStore) -> None:
    ten_rows(store)
    report = store.audit_verify()
    assert (report.ok, report.rows) == (True, 10)
    entries = store.audit_entries()
    assert report.head_hash == entries[-1].hash
    assert entries[0].prev_hash == ""
    assert [e.prev_hash for e in entries[1:]] == [e.hash for e in entries[:-1]]
    assert entries[3].details == '{"n":3,"text":"é"}'
    assert [e.seq for e in store.audit_entries(after=8)] == [9, 10]


def test_an_empty_chain_is_whole(store: MetadataStore) -> None:
    assert store.audit_verify() == AuditReport(0, "", ())


@pytest.mark.parametrize("column", ["principal", "established", "project", "action", "object", "details"])
def test_a_changed_text_is_found(store: MetadataStore, raw: Raw, column: str) -> None:
    report = after(store, raw, f"UPDATE mlcore_audit SET {column} = 'x' WHERE seq = 4")
    assert found(report) == [(4, "changed")]


def test_a_changed_time_is_found(store: MetadataStore, raw: Raw) -> None:
    report = after(store, raw, "UPDATE mlcore_audit SET at_us = at_us + 1 WHERE seq = 4")
    assert found(report) == [(4, "changed")]


def test_a_row_changed_together_with_its_hash_breaks_the_chain(store: MetadataStore, raw: Raw) -> None:
    assert found(after(store, raw, "UPDATE mlcore_audit SET hash = 'sha256:forged' WHERE seq = 4")) == [
        (4, "changed"),
        (5, "broken"),
    ]


@pytest.mark.parametrize("seq", [1, 5])
def test_a_missing_row_is_found(store: MetadataStore, raw: Raw, seq: int) -> None:
    report = after(store, raw, f"DELETE FROM mlcore_audit WHERE seq = {seq}")
    assert found(report) == [(seq, "missing")]


def test_a_missing_end_is_found(store: MetadataStore, raw: Raw) -> None:
    report = after(store, raw, "DELETE FROM mlcore_audit WHERE seq > 7")
    assert found(report) == [(8, "missing")]
    assert "3 row(s)" in report.problems[0].text


def test_a_missing_row_whose_gap_was_closed_is_found(store: MetadataStore, raw: Raw) -> None:
    report = after(
        store, raw, "DELETE FROM mlcore_audit WHERE seq = 9", "UPDATE mlcore_audit SET seq = 9 WHERE seq = 10"
    )
    assert not report.ok
    assert {problem.seq for problem in report.problems} >= {9, 10}


def test_two_rows_that_changed_places_are_found(store: MetadataStore, raw: Raw) -> None:
    report = after(
        store,
        raw,
        "UPDATE mlcore_audit SET seq = 99 WHERE seq = 3",
        "UPDATE mlcore_audit SET seq = 3 WHERE seq = 6",
        "UPDATE mlcore_audit SET seq = 6 WHERE seq = 99",
    )
    assert {(p.seq, p.kind) for p in report.problems} >= {(3, "reordered"), (6, "reordered")}


def test_a_missing_head_is_found(store: MetadataStore, raw: Raw) -> None:
    report = after(store, raw, "DELETE FROM mlcore_audit_head")
    assert found(report) == [(10, "missing")]


@pytest.mark.parametrize("everything", [False, True], ids=["an end cut off with its head", "all of it"])
def test_what_only_a_head_that_was_kept_elsewhere_tells(
    store: MetadataStore, raw: Raw, everything: bool
) -> None:
    ten_rows(store)
    kept, seventh = store.audit_verify().head_hash, store.audit_entries()[6].hash
    store.record_audit("test", "thing:later")
    assert store.audit_verify(known=kept).ok

    left, last = (0, "") if everything else (7, seventh)
    raw(
        f"DELETE FROM mlcore_audit WHERE seq > {left}",
        f"UPDATE mlcore_audit_head SET seq = {left}, hash = '{last}'",
    )

    assert store.audit_verify().ok
    report = store.audit_verify(known=kept)
    assert found(report) == [(left + 1, "missing")]
    assert kept in report.problems[0].text
