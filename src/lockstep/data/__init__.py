"""Fetch, verify and read the data; `load_dataset` is the door."""

from lockstep.data.datasets import fetch_dataset, load_dataset
from lockstep.data.images import Dataset, ImageFiles, ImageStore

__all__ = ["Dataset", "ImageFiles", "ImageStore", "fetch_dataset", "load_dataset"]
