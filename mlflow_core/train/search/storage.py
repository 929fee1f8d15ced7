"""Where optuna keeps a study: its own tables in a SQLite file, or in a schema of its own in a PostgreSQL database.

One driver at a time: a lock that dies with its holder keeps a second one from running the same trials.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_core.errors import TrainError
from mlflow_core.spec.model import NAME

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

__all__ = ["SCHEMA", "open_storage"]

SCHEMA = "mlcore_search"
"""The schema of optuna's tables in a PostgreSQL database."""


@contextmanager
def open_storage(where: str | Path, study: str, *, schema: str = SCHEMA) -> Iterator[RDBStorage]:
    """Open the storage for the one driver of a study.

    Args:
        where: A SQLite file, made with its folder if it is not there; or a ``postgresql://`` URL.
        study: The study's name.
        schema: The schema in a PostgreSQL database, made if it is not there.

    Raises:
        TrainError: Another driver runs the study, or the database cannot be used.
    """
    from sqlalchemy.exc import SQLAlchemyError

    with ExitStack() as stack:
        try:
            if isinstance(where, str) and where.startswith(
                ("postgresql:", "postgresql+psycopg:", "postgres:")
            ):
                storage = _postgres(where, study, schema, stack)
            elif isinstance(where, str) and "://" in where:
                raise TrainError(
                    f'studies cannot be kept in "{where.partition(":")[0]}"',
                    expected="the path of a SQLite file, or a postgresql:// URL",
                )
            else:
                storage = _sqlite(Path(where), study, stack)
        except SQLAlchemyError as error:
            raise TrainError(
                f"the study's storage cannot be used: {str(error).splitlines()[0]}", object=f'Study "{study}"'
            ) from None
        yield storage


def _sqlite(file: Path, study: str, stack: ExitStack) -> RDBStorage:
    from optuna.storages import RDBStorage

    file.parent.mkdir(parents=True, exist_ok=True)
    # A file of its own: closing another handle of the database would drop SQLite's own locks on it.
    mark = hashlib.sha256(study.encode()).hexdigest()[:8]
    lock = stack.enter_context((file.parent / f".{file.name}.{mark}.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _is_driven(study) from None
    storage = RDBStorage(f"sqlite:///{file.absolute()}", engine_kwargs={"connect_args": {"timeout": 60}})
    stack.callback(_close, storage)
    return storage


def _postgres(url: str, study: str, schema: str, stack: ExitStack) -> RDBStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, text

    if not NAME.match(schema):
        raise TrainError(f'"{schema}" is not the name of a schema')
    url = "postgresql+psycopg:" + url.partition(":")[2]
    engine = create_engine(url)
    stack.callback(engine.dispose)
    connection = stack.enter_context(engine.connect())
    key = int.from_bytes(hashlib.sha256(f"{schema}/{study}".encode()).digest()[:8], signed=True)
    if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
        raise _is_driven(study)
    connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
    connection.commit()  # the lock is the connection's, not the transaction's
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"options": f"-csearch_path={schema}"}})
    stack.callback(_close, storage)
    return storage


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _is_driven(study: str) -> TrainError:
    return TrainError(
        "is being run by another process",
        object=f'Study "{study}"',
        hint="Wait for it, or end it; then it can go on.",
    )
