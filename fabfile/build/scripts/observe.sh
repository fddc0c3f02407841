#!/bin/sh
# Lists all that is below a directory, in words of find's that GNU's and BusyBox's both know.
# In:   $directory; $mark, hex digits that nobody knew; $hashed: read all files for their sha256 ("": not);
#       $tolerant: pass over what can't be read ("": fail); "$@": what find is to leave out.
# Out:  nothing where there is no such directory; else for each path the mark, | and what stat says: raw mode
#       (hex), size, time (seconds) and path; a line of the mark and =; for each link its path, the mark, /, its
#       target and a dot, the mark, |; the line again; with $hashed what sha256sum says.
# Exit: 0; 1 where something can't be read
: "${directory?}" "${mark?}" "${hashed?}" "${tolerant?}"
unread() { [ -n "$tolerant" ] || exit 1; }
[ -d "$directory" ] || exit 0
cd "$directory" || exit 1
find . "$@" ! -name . -exec stat -c "$mark|%f %s %Y %n" {} + || unread
echo "$mark="
# shellcheck disable=SC2016  # for the sh that is called
find . "$@" ! -name . -type l -exec sh -c \
  'for n; do printf "%s%s/%s%s|" "${n#./}" "$0" "$(readlink "$n"; printf .)" "$0"; done' "$mark" {} + || unread
echo "$mark="
[ -z "$hashed" ] || find . "$@" ! -name . -type f -exec sha256sum -- {} + || unread
