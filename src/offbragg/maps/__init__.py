"""Maps of reciprocal space: the object, its file, merging and statistics."""
