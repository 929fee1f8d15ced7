"""What a view's features are at entity rows or at a boundary, for events that are in memory."""
