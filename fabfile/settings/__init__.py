"""config.yaml -> a frozen `Settings` tree, or one ConfigError that lists every mistake.

    model      every key, as dataclasses; start here
    values     what a single value may be
    loading    `load`: file <- environment <- command line
    reading    YAML -> plain data, and where each value stands (duplicate keys are found here)
    checking   merging, rules between keys, and what is said of each mistake
    mistakes   FILE:LINE: key.path: what was found; what is allowed

To add a key: one line in its section's class, one in config.example.yaml (a test insists on it).
`config.example.yaml` says what each key does.
"""

from .loading import load
from .model import Health, Hooks, HostEntry, Keepalive, Reconnect, Settings, Shared, Source, Ssh, known_keys

__all__ = [
    "Health",
    "Hooks",
    "HostEntry",
    "Keepalive",
    "Reconnect",
    "Settings",
    "Shared",
    "Source",
    "Ssh",
    "known_keys",
    "load",
]
