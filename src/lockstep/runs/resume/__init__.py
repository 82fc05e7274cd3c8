"""Whether a start may resume a run, `--resume-from`, and the name that the settings give to a run."""
