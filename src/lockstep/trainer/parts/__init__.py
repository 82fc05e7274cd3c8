"""What a task is made of in this process: its model and its data, found and checked."""
