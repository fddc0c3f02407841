#!/bin/sh
# Makes a release a copy of another tree; it is replaced if it is there. Nobody else can enter the copy: its
# root has the mode 0700.
# In:   $source, the tree; $parent and $name, of the release; $mode: auto, recycle, reflink, hardlink or full;
#       $recycling: `recycled` of recycle.sh is to be tried first; $cp_reflink: cp knows --reflink; $probe, a
#       file for trying it; $processes of cp at a time, and $depth, at which the tree is divided among them
#       (0: it is not) into $trees at a time.
# Out:  the mode used: recycle, reflink, hardlink or full
# Exit: 0; else nothing worked, and stderr says why
: "${source?}" "${parent?}" "${name?}" "${mode?}" "${recycling?}" "${cp_reflink?}"
: "${processes?}" "${depth?}" "${trees?}"
. ./enter.sh
. ./reflinks.sh
# Copies $source into the working directory; $1: a flag of cp's.
copy() {
  if [ "$depth" = 0 ]; then
    # Not the root itself, which would get the source's mode before all is there.
    # shellcheck disable=SC2016  # for the sh that is called
    find "$source/." ! -name . -prune -exec sh -c 'cp -a "$0" "$@" .' "$1" {} +
    return
  fi
  unset TAR_OPTIONS
  # The copy's own path may be led elsewhere, so it is named by a handle where there is one. (mksh and ksh93
  # hand none down to what they call.)
  there=$PWD; exec 8< . || return
  ! find /proc/self/fd/8/. -prune >/dev/null 2>&1 || there=/proc/self/fd/8
  above=$((depth - 1))
  # The directories above that depth, whole trees at it, files down to it; their times come last.
  ( cd "$source" &&
    find . -mindepth 1 -maxdepth $above -type d -print0 | (cd "$there" && xargs -0 -r mkdir -p --) &&
    find . -mindepth "$depth" -maxdepth "$depth" -type d -print0 | copy_some "$trees" "$1" &&
    find . -mindepth 1 -maxdepth "$depth" ! -type d -print0 | copy_some 500 "$1" &&
    find . -mindepth 1 -maxdepth $above -type d -print0 |
      tar -c --no-recursion --null -T - -f - | tar -x -p -C "$there" -f - )
}
copy_some() { xargs -0 -r -P "$processes" -n "$1" cp -a "$2" --parents -t "$there" --; }
fresh() { cd -P "$parent" >/dev/null && rm -rf "./$name" && tree_in . "$name"; }
way() { fresh && copy "$2" && echo "$1"; }

cd -P "$source" >/dev/null && ask >/dev/null || exit
source=$PWD
case $mode in
  reflink) way reflink --reflink=always; exit ;;
  hardlink) way hardlink -l; exit ;;
esac
if [ -n "$recycling" ]; then
  # On a line of its own: `set -e` does nothing in a condition.
  recycled
  # shellcheck disable=SC2181
  [ $? != 0 ] || { echo recycle; exit 0; }
fi
if [ "$mode" != full ] && [ -n "$cp_reflink" ] && reflinks; then
  way reflink --reflink=always 2>/dev/null && exit
fi
way full -P
