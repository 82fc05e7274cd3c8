"""Images as bytes: the files they come from, how they are decoded, cropped and augmented."""
