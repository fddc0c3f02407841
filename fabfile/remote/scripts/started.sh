#!/bin/sh
# started PID: prints when that process was started, to the tick (Linux) or the second (BSD's ps); nothing
# where nobody says. booted: prints which boot of the host this is; 0 where nobody says.
started() {
  if [ -r "/proc/$1/stat" ]; then sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
  elif [ ! -d /proc/self ]; then TZ=UTC ps -o lstart= -p "$1" 2>/dev/null | tr -sc 'A-Za-z0-9:\n' _; fi
}
booted() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo 0; }
