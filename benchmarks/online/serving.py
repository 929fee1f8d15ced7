"""Serving on Redis: the same queries and the same load for Feast's server and ours, in turn, one server at a time.

For each server: its answers to a few hundred queries a case first, then the load. Answers are compared with the truth (what
the Parquet files say) and so with each other; a server whose answers are not equal takes no ratio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.online.answers import Asker, Cells, cells_of_compact, cells_of_feast, differences
from benchmarks.online.hard import Hard
from benchmarks.online.load import Load, drive, write_bodies
from benchmarks.online.process import Running
from benchmarks.online.stores import RedisServer
from benchmarks.online.world import KEY, Case, World, bodies, keys_asked

__all__ = ["COMPACT", "FEASTS", "Driven", "Figures", "Route", "drive_server"]

N_BODIES, N_COMPARED = 2_000, 300
WARM_UP = 2.0


@dataclass(frozen=True)
class Route:
    """A route, how it is asked and how its answers are read."""

    path: str
    compact: bool
    cells: Callable[[bytes], Cells]


FEASTS = Route("/get-online-features", compact=False, cells=cells_of_feast)
COMPACT = Route("/v1/features", compact=True, cells=cells_of_compact)


@dataclass(frozen=True)
class Figures:
    """What one case under load took."""

    load: Load
    cpu_us: float  # of the server and its children, a request
    redis_us: float  # of Redis, a request
    body_bytes: int  # of one answer
    differing: Mapping[str, int]

    @property
    def equal(self) -> bool:
        return not any(self.differing.values())


@dataclass
class Driven:
    """Everything about one server: figures by (route, case), wrong cells on hard data, or why there is nothing."""

    name: str
    figures: dict[tuple[str, str], Figures] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def drive_server(
    name: str,
    start: Callable[[], AbstractContextManager[Running]],
    world: World,
    hard: Hard,
    redis: RedisServer,
    *,
    routes: Sequence[Route],
    cases: Sequence[Case],
    seconds: float,
    scratch: Path,
    said: Callable[[str], None],
) -> Driven:
    """Start a server, compare its answers, drive it, end it.

    Args:
        name: What it is called in the table.
        start: Starts it.
        world: The truth on benign data.
        hard: The truth on hard data.
        redis: The store behind it.
        routes: Which routes.
        cases: Which cases.
        seconds: Of load for each case, after a warm-up.
        scratch: For files of bodies.
        said: Told what goes on.
    """
    driven = Driven(name)
    try:
        with start() as server:
            for route in routes:
                for case in cases:
                    try:
                        figures = _one(server, redis, route, case, world, seconds, scratch)
                    except (RuntimeError, KeyError, ValueError) as error:
                        driven.failures[f"{route.path} {case.name}"] = str(error)[:200]
                        said(f"  {name} {route.path} {case.name}: {error}")
                        continue
                    driven.figures[route.path, case.name] = figures
                    said(_told(name, route, case, figures))
            driven.wrong = _wrong(server, hard, routes[0])
    except RuntimeError as error:
        driven.failures["start"] = str(error)[:200]
        said(f"  {name}: {error}")
    return driven


def _one(
    server: Running,
    redis: RedisServer,
    route: Route,
    case: Case,
    world: World,
    seconds: float,
    scratch: Path,
) -> Figures:
    n_bodies = min(N_BODIES, N_BODIES * 10 // case.entities)
    asked = keys_asked(case, world.n_entities, n_bodies)
    posted = bodies(case, asked, compact=route.compact)
    differing, n_bytes = _compare(server, route, case, world, asked, posted)
    file = scratch / "bodies.txt"
    write_bodies(file, posted)
    drive(server.url, route.path, file, seconds=WARM_UP)
    spent, stored = server.cpu(), redis.cpu()
    load = drive(server.url, route.path, file, seconds=seconds)
    served = max(load.requests, 1)
    cpu, store = (server.cpu() - spent) / served, (redis.cpu() - stored) / served
    if load.refused:
        raise RuntimeError(f"{load.refused} of {load.requests} requests were refused under load")
    return Figures(load, cpu * 1e6, store * 1e6, n_bytes, differing)


def _compare(
    server: Running,
    route: Route,
    case: Case,
    world: World,
    asked: Sequence[Sequence[int]],
    posted: Sequence[bytes],
) -> tuple[Counter[str], int]:
    asker, differing, n_bytes = Asker(server.port), Counter[str](), 0
    try:
        for keys, body in zip(asked[:N_COMPARED], posted[:N_COMPARED], strict=True):
            told = asker.ask(route.path, body)
            truth = world.truth(case, keys)
            if route.compact:
                del truth[KEY]
            # Without being asked for them the compact route gives no times.
            differing.update(differences(route.cells(told), truth, times=not route.compact))
            n_bytes = len(told)
    finally:
        asker.close()
    return differing, n_bytes


def _wrong(server: Running, hard: Hard, route: Route) -> dict[str, int]:
    asker, counted = Asker(server.port), Counter[str]()
    try:
        for keys in hard.asked():
            try:
                cells = route.cells(asker.ask(route.path, hard.body(keys)))
            except RuntimeError:
                cells = {}  # an answer that does not come is lost whole
            found = {name: [(value, status) for value, status, _ in column] for name, column in cells.items()}
            counted.update(hard.wrong(keys, found))
    finally:
        asker.close()
    return dict(counted)


def _told(name: str, route: Route, case: Case, one: Figures) -> str:
    load = one.load
    equal = "equal" if one.equal else f"DIFFERS {dict(one.differing)}"
    return (
        f"  {name} {route.path} {case.name}: {load.rate:,.0f}/s, p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, "
        f"{one.cpu_us:.0f} us CPU, {one.redis_us:.1f} us of Redis, {equal}"
    )
