"""disorder."""
