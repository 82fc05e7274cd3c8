"""What W&B's own folder holds of earlier starts."""
