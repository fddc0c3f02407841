"""What people type: a short file a task, flags in, one call to the core, report out."""

import sys

# Invoke turns bytecode off for a folder of tasks. To compile all of ours, and all they import, at each run
# takes as long as a small deployment.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
