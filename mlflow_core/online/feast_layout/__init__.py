"""Rows as Feast itself keeps them on Redis, read without Feast: its keys, its values' wire format, its fields' names."""
