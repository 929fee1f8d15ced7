"""The built-in networks, each with its paper, and those of users by import path."""
