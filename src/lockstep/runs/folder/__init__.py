"""The run folder as files: their names, the lock, links, full disks, and what is set aside."""
