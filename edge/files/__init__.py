"""Reading exported files, and what they say about themselves."""
