"""Answering while someone waits: features and predictions, the same code behind the command and HTTP."""
