#!/bin/sh
# Says which files of the source are not served: they are not in shared/, or were uploaded and not used.
# In:   $shared, the directory; $seeds, what was uploaded ("": nothing); "$@": the files, below shared/.
# Out:  unserved NUMBER, counted from 0, since names may hold anything
# Exit: 0
: "${shared?}" "${seeds?}"
cd "$shared" 2>/dev/null || cd /
i=0
for p; do
  if [ ! -e "./$p" ] && [ ! -L "./$p" ]; then echo "unserved $i"
  elif [ -n "$seeds" ] && [ -f "$seeds/$p" ] && ! cmp -s "$seeds/$p" "./$p"; then echo "unserved $i"; fi
  i=$((i + 1))
done
