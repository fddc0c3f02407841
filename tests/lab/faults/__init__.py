"""Every fault that this machine can make, by what it breaks; and healthy hosts."""

from tests.lab.faults import connect, healthy, layout, networks, sftp, shells, storage, ways_in
from tests.lab.faults.declared import CONTROLS, FAULTS, Fault

__all__ = [
    "CONTROLS",
    "FAULTS",
    "Fault",
    "connect",
    "healthy",
    "layout",
    "networks",
    "sftp",
    "shells",
    "storage",
    "ways_in",
]
