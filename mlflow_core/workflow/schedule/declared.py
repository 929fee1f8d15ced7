"""What is started by itself: what is declared becomes what the scheduler reads, at ``apply``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_core.errors import MlcoreError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata import Schedule as Kept
from mlflow_core.plan.project import Project
from mlflow_core.spec import FeatureView, Pipeline, Schedule, TrainingPipeline
from mlflow_core.workflow.schedule.conditions import Sight, condition_of
from mlflow_core.workflow.schedule.times import next_time
from mlflow_core.workflow.schedule.views import declared_view, schedule_name, scheduled_views
from mlflow_core.workflow.schedule.watching import declared_watch, is_watch, seen_first

__all__ = ["SchedulesApplied", "apply_schedules", "declared_schedules"]


@dataclass(frozen=True, slots=True)
class SchedulesApplied:
    """What applying schedules did.

    Attributes:
        put: Schedules that are in force now: pipelines by their names, views as ``view:NAME``.
        removed: Those that are not any more.
    """

    put: tuple[str, ...]
    removed: tuple[str, ...]


def declared_schedules(project: Project) -> dict[str, Schedule]:
    """Return the schedules that a project declares, by pipeline.

    Args:
        project: The loaded project.
    """
    pipelines: dict[str, TrainingPipeline | Pipeline] = {**project.pipelines, **project.step_pipelines}
    return {
        name: schedule
        for name, pipeline in sorted(pipelines.items())
        if (schedule := pipeline.schedule) is not None
    }


def apply_schedules(
    project: Project, metadata: MetadataStore, now_us: int, *, materialize: bool | Sequence[str] = False
) -> SchedulesApplied:
    """Put the schedules that a project declares in force, each under its pipeline's name, and take away the others.

    Args:
        project: The loaded project.
        metadata: Where schedules are kept. One that stays as it is keeps when it is due, and stays paused if it was.
        now_us: A new one is due after this, microseconds since the epoch, UTC; a view at once.
        materialize: Which views are materialised by themselves, as ``[schedule] materialize`` says.

    Raises:
        UsageError: A view that is to be materialised by itself cannot be.
        MetadataError: The database cannot be written.
    """
    declared = declared_schedules(project)
    views = scheduled_views(project, materialize)
    before = {one.name: one for one in metadata.list_schedules()}
    for name, schedule in declared.items():
        if schedule.cron is not None:
            next_us = next_time(schedule.cron, schedule.zone, now_us)
            metadata.put_schedule(
                name, pipeline=name, cron=schedule.cron, zone=schedule.zone, next_us=next_us
            )
        else:
            triggers = declared_watch(schedule, project.pipelines.get(name))
            _put_watch(metadata, name, triggers, str(project.repo), before.get(name), now_us)
    for view in views.values():
        _put_view(metadata, view, before.get(schedule_name(view.name)), now_us)
    put = (*declared, *(schedule_name(name) for name in views))
    gone = [name for name in before if name not in put]
    for name in gone:
        metadata.remove_schedule(name)
    return SchedulesApplied(put, tuple(gone))


def _put_watch(
    metadata: MetadataStore, name: str, triggers: dict[str, Any], base: str, before: Kept | None, now_us: int
) -> None:
    if before is not None and before.triggers == triggers:
        return
    seen: dict[str, Any] | None = None
    if before is None or not is_watch(before) or before.triggers["when"] != triggers["when"]:
        seen = _seen_since(before, triggers, base, now_us)
    metadata.put_schedule(name, pipeline=name, triggers=triggers, seen=seen, next_us=now_us)


def _seen_since(before: Kept | None, triggers: dict[str, Any], base: str, now_us: int) -> dict[str, Any]:
    """What is there now is no arrival, unless it has arrived since the last start already, only less was asked for."""
    if before is not None and is_watch(before):
        then, now = before.triggers["when"], triggers["when"]
        if (then["kind"], then.get("source")) == (now["kind"], now.get("source")):
            return dict(before.seen)
    sight: Sight | None = None
    try:
        sight = condition_of(triggers["when"], base).first()
    except MlcoreError:
        # Its first look will say what is wrong, beside the schedule; what is applied is applied.
        sight = None
    return seen_first(sight, now_us)


def _put_view(metadata: MetadataStore, view: FeatureView, before: Kept | None, now_us: int) -> None:
    triggers = declared_view(view)
    if before is not None and before.triggers == triggers:
        return
    name = schedule_name(view.name)
    metadata.put_schedule(name, pipeline=name, triggers=triggers, seen={}, next_us=now_us)
