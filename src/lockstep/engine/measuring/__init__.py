"""Time and memory that a run takes."""
