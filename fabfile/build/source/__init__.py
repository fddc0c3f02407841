"""What is to be deployed, read on this machine: a folder, or a revision of a git repository."""
