"""The checks of `lockstep doctor`: of the launch, and of the run that it is to start."""
