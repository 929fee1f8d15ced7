"""Searches over a trainer's settings."""
