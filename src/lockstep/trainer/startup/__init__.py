"""What happens once as a start begins: initial weights, sinks, what is compared and printed."""
