"""The tree of settings: every field with its meaning, unit and checks."""
