"""``make bench-online``: Feast's writer and server against ours on private stores, with the limits, one table from one run."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.online.comparing import hard_rows, serving_rows
from benchmarks.online.limits import limit_rows
from benchmarks.online.materialising import STORES, materialising_rows
from benchmarks.online.prepared import Prepared
from benchmarks.online.servers import FEAST, feast_server, our_server
from benchmarks.online.serving import COMPACT, FEASTS, Driven, drive_server
from benchmarks.online.soak import soak
from benchmarks.online.world import CASES, Case
from benchmarks.results import Row, markdown, report

PARTS = ("materialise", "large", "serving", "limits")
SOAK = "soak"
KNOWN = (*PARTS, SOAK, *STORES)
LARGER = 10
FRONT = "ours on Feast's layout"


def main() -> None:
    """Run what was asked for, print the table and write the results."""
    given = _arguments()
    if given.markdown:
        print(markdown("online"))
        return
    unknown = [word for word in given.words if word not in KNOWN]
    if unknown:
        raise SystemExit(f'"{unknown[0]}" is none of {", ".join(KNOWN)}')
    if SOAK in given.words:
        _soaked(given)
        return
    parts = [one for one in PARTS if one in given.words] or list(PARTS)
    stores = [one for one in STORES if one in given.words] or list(STORES)
    cases = [one for one in CASES if not given.cases or one.name in given.cases.split(",")]
    peers = [one for one in FEAST if not given.peers or one in given.peers.split(";")]
    with tempfile.TemporaryDirectory(prefix="bench-online-", dir=given.folder) as scratch:
        prepared = Prepared(Path(scratch), given.entities)
        try:
            rows = _run(prepared, parts, stores, cases, peers, given.seconds)
        finally:
            prepared.close()
    whole = parts == list(PARTS) and not given.words and not given.cases and not given.peers
    report("online" if whole else "online-part", rows)
    if any(row.equal is False for row in rows):
        raise SystemExit("values differ on benign data: those rows say nothing")
    if any(row.ours for row in rows if row.metric == "wrong or lost values"):
        raise SystemExit("our own values are wrong on hard data")


def _soaked(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-online-", dir=given.folder) as scratch:
        rows = soak(
            Path(scratch),
            n_entities=given.entities,
            seconds=given.soak_seconds,
            said=lambda line: print(line, file=sys.stderr, flush=True),
        )
    report("online-soak", rows)
    if any(row.equal is False for row in rows):
        raise SystemExit("a wrong value, a lost write, or a failure that nothing explains")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-online ARGS=...", description=__doc__)
    parser.add_argument(
        "words",
        nargs="*",
        help=f"parts ({', '.join(PARTS)}) and stores ({', '.join(STORES)}), all by default; or soak, alone",
    )
    parser.add_argument("--entities", type=int, default=20_000, help="how many; 20,000 by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load for each case; 10 by default")
    parser.add_argument("--soak-seconds", type=float, default=60.0, help="of the soak; 60 by default")
    parser.add_argument("--cases", default="", help='only these, e.g. "1 x 50,100 x 50"')
    parser.add_argument("--peers", default="", help=f"only these of {'; '.join(FEAST)}, with semicolons")
    parser.add_argument("--folder", help="where data is made, instead of the system's temporary folder")
    parser.add_argument(
        "--markdown", action="store_true", help="print the last whole run's table, run nothing"
    )
    return parser.parse_args()


def _run(
    prepared: Prepared,
    parts: Sequence[str],
    stores: Sequence[str],
    cases: Sequence[Case],
    peers: Sequence[str],
    seconds: float,
) -> list[Row]:
    rows: list[Row] = []
    ours: Driven | None = None
    start = time.monotonic()
    if "materialise" in parts:
        prepared.said("materialise")
        rows += materialising_rows(prepared, stores)
    if "large" in parts:
        prepared.said("large")
        larger = Prepared(prepared.scratch / "large", prepared.n_entities * LARGER)
        try:
            rows += materialising_rows(larger, ("redis",), large=True)
        finally:
            larger.close()
    if "serving" in parts:
        prepared.said("serving")
        theirs = [_driven(prepared, name, cases, seconds) for name in peers]
        ours = _driven(prepared, "ours", cases, seconds)
        front = _driven(prepared, FRONT, cases, seconds)
        rows += serving_rows(ours, front, theirs, cases) + hard_rows(ours, theirs)
    if "limits" in parts:
        prepared.said("limits")
        rows += limit_rows(
            ours, prepared.n_entities, seconds=seconds, scratch=prepared.scratch, said=prepared.said
        )
    prepared.said(f"({time.monotonic() - start:.0f} s)")
    return rows


def _driven(prepared: Prepared, name: str, cases: Sequence[Case], seconds: float) -> Driven:
    """Drive one server on Redis; where its data could not be written, say so and go on."""
    side = "ours" if name == "ours" else "feast"
    written = prepared.written(side, "redis")
    if written.failure:
        return Driven(name, failures={"start": written.failure})
    repository = prepared.front() if name == FRONT else written.repository
    return drive_server(
        name,
        (lambda: feast_server(repository, name)) if name in FEAST else (lambda: our_server(repository)),
        prepared.world,
        prepared.hard,
        prepared.redis(side),
        routes=(FEASTS, COMPACT) if name == "ours" else (FEASTS,),
        cases=cases,
        seconds=seconds,
        scratch=prepared.scratch,
        said=prepared.said,
    )


if __name__ == "__main__":
    sys.exit(main())
