"""How samples are read: their seeds, the worker processes that read ahead, and what can be wrong."""
