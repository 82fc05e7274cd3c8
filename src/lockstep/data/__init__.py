"""Fetch, verify and read the data; `load_dataset` is the door."""

from lockstep.data.datasets import Dataset, fetch_dataset, load_dataset

__all__ = ["Dataset", "fetch_dataset", "load_dataset"]
