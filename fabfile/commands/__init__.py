"""What one host goes through in each command, from its first step to its last."""
