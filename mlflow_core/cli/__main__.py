"""``python -m mlflow_core.cli``: the command where its script is not on the path."""

from mlflow_core.cli import main

main()
