"""The tests, one folder a room; a package so that `tests.oracle` can be imported by name."""
