"""What happens on this machine: programs that are run here, and folders for a command's own use."""
