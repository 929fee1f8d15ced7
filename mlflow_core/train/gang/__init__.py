"""Ranks that train together on Dask workers, watched, and started again from a checkpoint when a worker is lost."""
