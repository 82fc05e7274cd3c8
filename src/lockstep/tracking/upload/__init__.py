"""A run on its way to W&B: the queue, its thread, and every call of wandb's."""
