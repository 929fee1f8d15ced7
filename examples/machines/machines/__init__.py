"""Features of the machines."""
