"""What the launcher and the cluster say: ranks, nodes, processes, where they meet; and their commands."""
