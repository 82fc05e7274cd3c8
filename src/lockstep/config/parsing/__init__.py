"""From flags and YAML to the tree of settings, and back to text."""
