"""The ranks as a group: how they agree, and what must be alike on all of them."""
