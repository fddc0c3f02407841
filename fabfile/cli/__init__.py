"""What people type: a short file a task, flags in, one call to the core, report out."""

import sys

from ..report.outlet import open_standard_streams

# Invoke turns bytecode off for a folder of tasks. To compile all of ours, and all they import, at each run
# takes as long as a small deployment.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

# Before anything is opened: what is closed here would be the next connection.
open_standard_streams()
