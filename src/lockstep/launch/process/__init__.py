"""One process: its stop signals, its output, and the state that a run restores when it ends."""
