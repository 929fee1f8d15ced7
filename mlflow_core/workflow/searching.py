"""A pipeline's search: what it is, where its study is kept, and its mirror in the metadata store.

What is searched and how is ``train.search``'s business. A study is named by what it searches on which data, so that
one that was interrupted goes on, one that has finished is not run again, and one that was changed is another.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson

from mlflow_core.config import Settings
from mlflow_core.metadata import MetadataStore
from mlflow_core.spec import Search, TrainingPipeline
from mlflow_core.train import TrainContext
from mlflow_core.train.identity import identity_of
from mlflow_core.train.search.recorder import StudyFacts, Trial
from mlflow_core.train.search.result import SearchResult
from mlflow_core.train.search.run import run_search
from mlflow_core.train.search.storage import SCHEMA
from mlflow_core.train.search.trial import with_one_rank
from mlflow_core.workflow.dataset import StoredDataset

__all__ = ["StudyMirror", "search_of", "search_settings", "study_place"]

_NAME_DIGITS = 12
_HOW_FAR = {"trials", "parallel", "within", "start"}  # what may change while a study goes on


def search_of(spec: TrainingPipeline) -> Search:
    """The search that a pipeline declares.

    Raises:
        SpecError: It declares none.
    """
    if spec.search is None:
        raise spec.wrong(
            "declares no search",
            hint="Say which settings of its trainer are looked for, and where, e.g. "
            'search=ml.Search(trials=30, space={"max_depth": ml.Int(3, 9)}).',
        )
    return spec.search


def study_place(settings: Settings, metadata: MetadataStore) -> str:
    """Where the studies of a project are kept, as people are told: a file, or a database with the schema in it."""
    found = _storage(settings)
    return str(found) if isinstance(found, Path) else f"{metadata.shown_url}, schema {SCHEMA}"


class StudyMirror:
    """Writes a study and its finished trials to the metadata store.

    Args:
        metadata: Where it is written.
        run_id: The run that searches.
    """

    def __init__(self, metadata: MetadataStore, run_id: str) -> None:
        self._metadata, self._run_id = metadata, run_id
        self._study: int | None = None

    def study(self, study: StudyFacts) -> None:
        """Note the study, or find the one of its name."""
        self._study = self._metadata.create_study(
            study.name,
            metric=study.metric,
            direction=study.direction,
            space=study.space,
            sampler=study.sampler,
            seed=study.seed,
            run_id=self._run_id,
        ).id

    def trial(self, trial: Trial) -> None:
        """Note a trial that has ended."""
        if self._study is None or trial.started_us is None or trial.ended_us is None:
            raise ValueError(f"trial {trial.number} was told before its study, or before it ended")
        self._metadata.record_trial(
            self._study,
            trial.number,
            trial.settings,
            trial.state,
            trial.value,
            values={str(step): value for step, value in trial.values.items()},
            started_us=trial.started_us,
            ended_us=trial.ended_us,
            run_id=self._run_id,
        )


def search_settings(
    spec: TrainingPipeline,
    dataset: StoredDataset,
    context: TrainContext,
    *,
    settings: Settings,
    metadata: MetadataStore,
    run_id: str,
) -> SearchResult:
    """Search a pipeline's settings on its dataset, or go on with the search that was interrupted.

    Args:
        spec: The pipeline; it declares a search.
        dataset: Its training set.
        context: Where it runs.
        settings: Say where the study is kept: in the metadata database if that is PostgreSQL, else in a file.
        metadata: Where it is mirrored.
        run_id: The run that searches.

    Raises:
        SpecError: The pipeline declares no search, or one that does not fit its trainer.
        TrainError: No trial succeeded, or another process runs the same search.
    """
    search = search_of(spec)
    searched = search.model_dump(mode="json", exclude=_HOW_FAR)
    told = orjson.dumps(
        [identity_of(with_one_rank(spec.trainer)), searched, dataset.artifact.digest],
        option=orjson.OPT_SORT_KEYS,
    )
    return run_search(
        spec.trainer,
        search,
        dataset.data,
        context,
        name=f"{spec.name}-{hashlib.sha256(told).hexdigest()[:_NAME_DIGITS]}",
        storage=_storage(settings),
        recorder=StudyMirror(metadata, run_id),
    )


def _storage(settings: Settings) -> str | Path:
    url = settings.metadata_url()
    return url if url.startswith("postgresql") else settings.root / ".mlcore" / "studies.sqlite"
