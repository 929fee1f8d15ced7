"""The route on Dask: what there is to do, bucket by bucket on the workers, and the output rows put together."""
