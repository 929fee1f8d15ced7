"""How the tables came to be: Alembic's revisions, run by :mod:`mlflow_core.metadata.upgrade`."""
