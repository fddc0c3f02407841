"""How a release comes about: what has to travel, the copy, what is shared, and the proof that it is whole."""
