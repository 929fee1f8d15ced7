"""Which pipelines are started by themselves: what is declared becomes what the scheduler reads, at ``apply``."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_core.metadata import MetadataStore
from mlflow_core.plan.project import Project
from mlflow_core.spec import Pipeline, Schedule, TrainingPipeline
from mlflow_core.workflow.schedule.times import next_time

__all__ = ["SchedulesApplied", "apply_schedules", "declared_schedules"]


@dataclass(frozen=True, slots=True)
class SchedulesApplied:
    """What applying schedules did.

    Attributes:
        put: Pipelines whose schedule is in force now.
        removed: Pipelines that are not started by themselves any more.
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


def apply_schedules(project: Project, metadata: MetadataStore, now_us: int) -> SchedulesApplied:
    """Put the schedules that a project declares in force, each under its pipeline's name, and take away the others.

    Args:
        project: The loaded project.
        metadata: Where schedules are kept. One that stays as it is keeps when it is due, and stays paused if it was.
        now_us: A new one is due after this, microseconds since the epoch, UTC.

    Raises:
        MetadataError: The database cannot be written.
    """
    declared = declared_schedules(project)
    for name, schedule in declared.items():
        metadata.put_schedule(
            name,
            pipeline=name,
            cron=schedule.cron,
            zone=schedule.zone,
            next_us=next_time(schedule.cron, schedule.zone, now_us),
        )
    gone = [one.name for one in metadata.list_schedules() if one.name not in declared]
    for name in gone:
        metadata.remove_schedule(name)
    return SchedulesApplied(tuple(declared), tuple(gone))
