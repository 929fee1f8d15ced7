"""One module a revision, never changed after it was released."""
