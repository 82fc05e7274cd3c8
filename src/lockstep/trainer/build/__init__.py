"""From the parts to a `Run`: trials, the size of a micro-batch, eager or captured steps."""
