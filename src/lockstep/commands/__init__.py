"""The `lockstep` commands, a module each: options, help text, and what is printed."""
