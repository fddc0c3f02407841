"""What the user reads: the console, JSON documents, and the diagnosis as a page."""
