#!/bin/sh
# Removes releases with their records, which say already that they failed.
# In:   $releases and $records, the directories of both; "$@": the ids.
# Out:  a line `left ID` for each that could not be removed completely, behind what rm said of it
# Exit: 0; 1 where one is left
: "${releases?}" "${records?}"
alone() {
  # Directories only: a hardlinked file is one with its copies in the releases that stay.
  {
    rm -rf "${releases:?}/$1" 2>/dev/null ||
      { find "$releases/$1" -type d -exec chmod u+rwx {} ';' 2>/dev/null; rm -rf "${releases:?}/$1"; } 2>&1
  } && rm -rf "${records:?}/$1"
}
# Most often nothing is in the way of any: then two processes do for all.
if (cd "$releases" && rm -rf "$@" && cd "$records" && rm -rf "$@") 2>/dev/null; then
  left=0
else
  left=0
  for id; do alone "$id" || { echo "left $id"; left=1; }; done
fi
[ $left = 0 ]
