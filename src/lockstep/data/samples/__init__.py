"""The samples of a run, by number: of any Dataset, tensors, images on the device or read from disk."""
