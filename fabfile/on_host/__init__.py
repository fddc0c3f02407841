"""What stands on the host: folders, lock, records, manifests, and which old releases are kept."""
