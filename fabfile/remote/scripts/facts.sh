#!/bin/sh
# Says what the host is able to do.
# In:   $needed: the programs without which there is no deployment, apart by blanks; $lacks: the exit status
#       where one is missing; "$@": other programs to look for.
# Out:  lines of a word and a value, apart by a tab: user, machine, cores; program for each that is there;
#       cp_reflink, mv_no_target and find_printf, 1, where that program knows it; end, and nothing. Or else
#       missing for each that is needed and is not there
# Exit: 0; $lacks
: "${needed?}" "${lacks?}"
yes() { printf '%s\t1\n' "$1"; }
status=0
for p in $needed; do
  command -v "$p" >/dev/null 2>&1 || { status=$lacks; printf 'missing\t%s\n' "$p"; }
done
[ "$status" = 0 ] || exit "$status"
printf 'user\t%s\n' "$(id -un 2>/dev/null || id -u)"
printf 'machine\t%s\n' "$(hostname 2>/dev/null || uname -n)"
for p; do command -v "$p" >/dev/null 2>&1 && printf 'program\t%s\n' "$p"; done
cp --help 2>&1 | grep -q -- --reflink && yes cp_reflink
# toybox's refuses to replace a link to a directory.
case $(mv --help 2>&1) in *[Tt]oybox*) ;; *-T*) yes mv_no_target ;; esac
find / -maxdepth 0 -printf '%C@' >/dev/null 2>&1 && yes find_printf
printf 'cores\t%s\n' "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)"
printf 'end\t\n'
