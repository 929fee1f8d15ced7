"""Files and folders that are whole or not there: drafts, Arrow parts, Parquet shards, entries of the cache."""
