#!/bin/sh
# What ends jobs. In: $folder, the beginning of the names of our jobs' directories; $whose jobs: ours or others.
# each FUNCTION: calls it for each of these, as $job.
# cancel: ends the job and its children; they get 5 s before they are killed.
# forget: removes its directory. One that names no process that there can be stays, and is told:
#         stray<tab>NAME on standard output.
: "${folder?}" "${whose?}"
. ./process.sh
. ./signal.sh
each() {
  failed=0
  for job in "${folder%/*}"/*; do
    case $job in "$folder".*) [ "$whose" = ours ] ;; *) [ "$whose" = others ] ;; esac || continue
    ( "$1" ) || failed=1
  done
  return $failed
}
cancel() {
  [ ! -f "$job/status" ] || return 0
  alive; [ $? != 2 ] || return 0
  signal TERM
  n=0; while [ $n -lt 25 ] && { alive || [ -n "$(members)" ]; }; do
    sleep 0.2 2>/dev/null || sleep 1; n=$((n + 1))
  done
  [ $n = 0 ] || { alive; signal KILL; }
  :
}
forget() {
  [ -e "$job" ] || [ -L "$job" ] || return 0
  if stray; then printf 'stray\t%s\n' "${job##*/}"; else rm -rf "$job"; fi
}
