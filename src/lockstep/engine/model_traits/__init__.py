"""How a model uses its parameters and changes its buffers, found out by trials before step 1."""
