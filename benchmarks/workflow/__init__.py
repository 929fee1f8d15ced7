"""What the runner costs beside what Dask costs anyway."""
