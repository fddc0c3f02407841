#!/bin/sh
# shellcheck disable=SC2034,SC2154  # $job is set by who calls, and who calls reads $proven
# Whose process a job's is. In: $job, the job's directory.
# named: sets $pid, $start and $boot to the process that the job names; false where there can't be one.
# stray: whether it names something else.
# alive: whether that process lives: 0 yes, 1 no, 2 none is named. $proven is empty where a process of that
#        number lives and nothing tells whether it is the same.
. ./started.sh
named() {
  claim=$(readlink "$job/process" 2>/dev/null) || return 1
  pid=${claim%% *}; start=${claim#* }; boot=${start#* }; start=${start%% *}
  case $pid in ''|*[!0-9]*|0*|1|???????????*) return 1 ;; esac
  case $start in ''|*[!A-Za-z0-9:_]*) return 1 ;; esac
  case $boot in ''|*[!A-Za-z0-9-]*) return 1 ;; esac
  [ "$claim" = "$pid $start $boot" ]
}
stray() { { [ -e "$job/process" ] || [ -L "$job/process" ]; } && ! named; }
alive() {
  proven=
  named || return 2
  # Nobody has reaped it.
  case $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) in [ZX]*) return 1 ;; esac
  now=$(started "$pid")
  if [ -z "$now" ] && [ -d /proc/self ]; then return 1; fi
  if [ -z "$now" ] || [ "$start" = 0 ]; then kill -0 "$pid" 2>/dev/null; return; fi
  [ "$now" = "$start" ] && [ "$(booted)" = "$boot" ] || return 1
  proven=1
}
