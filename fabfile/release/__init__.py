"""Releases on one host: their layout, how one is filled, proven, switched to and removed."""
