#!/bin/sh
# What starts a job, unless it was started before: these functions, in their order.
# In:   $job, its directory; $limit, the seconds after which it is ended; $runner, the text of run_job.sh;
#       $end, a word that nobody knew.
# Exit: 1 where the directory can't be made or written to
: "${job?}" "${limit?}" "${runner?}" "${end?}"
unstarted() { [ ! -L "$job/process" ]; }
make_place() {
  umask 077
  mkdir -p "$job" && chmod 700 "$job" || exit 1
}
# On standard input: what sets the account's own environment. $1: the file for it.
take_environment() {
  # bash says SHELLOPTS and BASHOPTS, and does not take them.
  sed "${BASH_VERSION:+/^export SHELLOPTS=/d; /^export BASHOPTS=/d}" > "$job/script.$end.env" &&
    mv -f "$job/script.$end.env" "$job/$1" || exit 1
}
# On standard input: the job's script. It is there whole before it runs.
take_script() {
  cat > "$job/script.$end" && mv -f "$job/script.$end" "$job/script" || exit 1
}
launch() {
  : >> "$job/log" && cd "$job" || exit 1
  # With exec, since yash would wait for it and hold our standard output meanwhile.
  if command -v setsid >/dev/null 2>&1; then
    exec setsid /bin/sh -c "$runner" sh "$limit" </dev/null >/dev/null 2>&1 &
  else
    (trap '' HUP; exec /bin/sh -c "$runner" sh "$limit" </dev/null >/dev/null 2>&1 &)
  fi
  cd /
}
