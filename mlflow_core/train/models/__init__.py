"""What training leaves: a model that predicts, is saved as data, and is exported."""
