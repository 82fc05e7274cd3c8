"""The models by name, built in or a user's own."""
