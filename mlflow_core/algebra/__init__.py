"""The meaning of one feature in code, shared by every path: expressions, aggregates, on-demand functions, types."""
