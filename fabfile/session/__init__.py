"""One host under a lock: its named steps, the lock and its lease, and how the live link is moved."""
