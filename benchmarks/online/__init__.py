"""Online features: Feast's writer and server against ours, on the same data, stores and load."""
