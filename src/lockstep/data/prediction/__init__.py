"""What `lockstep predict` reads: images without labels, and how they are prepared for a model."""
