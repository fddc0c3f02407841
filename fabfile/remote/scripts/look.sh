#!/bin/sh
# Says what is at some paths. In: "$@": the paths; $mark, hex digits that nobody knew.
# Out:  for each what stat says, raw mode (hex) and size, in words of stat's that GNU's and BusyBox's both know,
#       or nothing; the mark; where a link leads, or nothing; the mark
# Exit: 0; 1 where a link can't be read
: "${mark?}"
for p; do
  if [ -e "$p" ] || [ -L "$p" ]; then stat -c '%f %s' "$p"; fi
  printf %s "$mark"
  if [ -L "$p" ]; then readlink "$p" || exit 1; fi
  printf %s "$mark"
done
