"""W&B artifacts: what becomes one, and how a model is downloaded."""
