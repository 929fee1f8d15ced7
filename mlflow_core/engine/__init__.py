"""How features are computed in bulk: routes (in process, Dask), clocks, window kernels. Knows Arrow, not Feast."""
