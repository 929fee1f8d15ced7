"""The online store in PostgreSQL: one schema for all projects, one row for each (view, key).

``store`` is the backend, ``pool`` its connections, ``schema`` its tables, ``statements`` what it says to the server,
``reasons`` what its errors mean. Needs the extra ``postgres``.
"""

from mlflow_core.errors import StoreError

try:
    import psycopg as _psycopg  # noqa: F401  a message of our own rather than the modules' below
except ImportError as error:
    raise StoreError(
        f"the PostgreSQL backend needs the library psycopg ({error})",
        object="online store",
        hint='Install the extra: pip install "mlflow-core[postgres]".',
    ) from error

from mlflow_core.online.postgres.store import PostgresBackend

__all__ = ["PostgresBackend"]
