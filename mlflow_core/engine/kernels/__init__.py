"""What runs over arrays: sorting, ranges, folds and the sweep, compiled by numba. It knows positions, not columns."""
