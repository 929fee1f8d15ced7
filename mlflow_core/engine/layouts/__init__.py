"""A source's parts as sorted runs in files, kept in a cache and found again by what decides their content."""
