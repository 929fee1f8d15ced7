"""Point-in-time retrieval against pandas, DuckDB and Feast's own offline store."""
