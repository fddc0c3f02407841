#!/bin/sh
# Lists the names in a directory. In: $directory; $mark, hex digits that nobody knew.
# Out:  an empty line; each name, behind it / and the mark
# Exit: 0; 1 where there is no such directory
: "${directory?}" "${mark?}"
cd "$directory" 2>/dev/null && echo || exit 1
# shellcheck disable=SC2016  # for the sh that is called
find . ! -name . -prune -exec sh -c 'for n; do printf "%s/%s" "${n#./}" "$0"; done' "$mark" {} +
