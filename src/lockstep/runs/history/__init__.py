"""What a run folder tells of the past: settings, starts, records, the environment and the task."""
