"""The `lockstep` commands, one module each: its options, help text and output."""
