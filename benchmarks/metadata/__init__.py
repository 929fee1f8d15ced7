"""Metadata: our store against MLflow's own on SQLite, in the same run, with the same promises to the disk."""
