"""What all data sets of digits and their look-alikes share, and so what every model is built for."""

IMAGE_SIZE = 28
"""Pixels a side."""
NUM_CLASSES = 10
"""Labels are 0 to 9."""
