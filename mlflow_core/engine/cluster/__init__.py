"""Dask: a cluster opened by profile or address, and tasks waited for until they end one way or another."""
