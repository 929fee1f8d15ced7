"""Events and entity rows as the engine holds them: columns, keys, times, versions, sorted runs and histories."""
