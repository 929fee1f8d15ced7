"""Training sets: entity rows with labels, their features, parts and checks."""
