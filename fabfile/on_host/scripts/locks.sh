#!/bin/sh
# shellcheck disable=SC2034  # who calls reads $odd
# The locks in the working directory.
# In: $owner_limit, the bytes of an owner's file that are read.
# find_top: sets $top to the highest lock, 0 where there is none, and $odd to how many entries are no locks.
# signed NUMBER: prints who has that lock.
: "${owner_limit?}"
# Only directories count that are named by a number as we write it: 08 would be octal.
number() {
  case $1 in [1-9]) ;; [1-9]*[!0-9]*|[1-9]?????????*|[!1-9]*|'') return 1 ;; esac
  [ -d "$1" ] && [ ! -L "$1" ]
}
signed() { [ ! -f "$1/owner" ] || head -c "$owner_limit" "$1/owner" 2>/dev/null; }
find_top() {
  top=0 odd=0
  for d in *; do
    if number "$d"; then [ "$d" -le "$top" ] || top=$d; elif [ -e "$d" ]; then odd=$((odd + 1)); fi
  done
}
