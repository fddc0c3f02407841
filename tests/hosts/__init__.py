"""Hosts as people have them: login shells, start-up files, limits."""
