"""A user's own code that settings name: imported, described by its source, and refused."""
