"""How features are kept for reading: packed rows, canonical keys, backends, and the one reader. Knows bytes, not HTTP."""
