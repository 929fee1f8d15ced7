"""The trainer of families: one model for each entity, and one of all rows for the rest."""
