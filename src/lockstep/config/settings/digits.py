"""What MNIST and its look-alikes have in common, and so what every model is built for."""

IMAGE_SIZE = 28
"""Height and width of an image, in pixels."""
NUM_CLASSES = 10
"""Labels are 0 to 9."""
