"""The training set as numbers: its shards, what is in them, how columns become a matrix, in which order it is read."""
