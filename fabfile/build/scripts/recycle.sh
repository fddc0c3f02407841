#!/bin/sh
# recycled: makes an old release the new one; false where its tree is not as it was sealed.
# In:   $own, a directory on the same file system; $seal, the digest that the tree must have; $releases, and in
#       it $old and $name of the two; $drifted, the word that is printed where somebody has changed the tree.
#       The functions that stand behind this: `digest` prints what the tree's seal is now; `become` does the
#       rest, with `rename_old`. See also enter.sh.
: "${own?}" "${seal?}" "${releases?}" "${old?}" "${name?}" "${drifted?}"
. ./seals.sh
recycled() {
  seals "$own" &
  [ "$(digest)" = "$seal" ]; sealed=$?
  wait $! || return 1
  [ $sealed = 0 ] || { echo "$drifted"; return 1; }
  ( become )
}
# The tree under its new name, closed to all others.
rename_old() {
  cd -P "$releases" >/dev/null || exit
  rm -rf "./$name" && mv -fT "./$old" "./$name"
  tree_in . "$name"
  chmod 700 .
}
