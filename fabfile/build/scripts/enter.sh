#!/bin/sh
# shellcheck disable=SC2154,SC2164  # $links is set by who calls; who calls `ask` looks at its status
# Into directories, one name at a time, and never through a link that somebody has put in the way.
# ask: sets $PWD to where we are, as the system says it: bash makes it out of the name it was given, which may
#      have led elsewhere meanwhile. mksh takes the link in /proc for a directory.
# into PATH: the directory whose physical path that is; else to /, and false.
# tree_in DIRECTORY NAME: the tree NAME in it, made where it is missing; $tree is its physical path.
# enter DIRECTORY: below $tree. Whatever stands in a directory's place goes and the directory is made, but for a
#                  link where $links says that it stays: the status is 2 then.
# directory NAME: the same for one name in the working directory.

ask() { cd -P /proc/self/cwd; }
(cd / && ask && [ "$PWD" = / ]) >/dev/null 2>&1 ||
  case ${KSH_VERSION-} in ?*) ask() { PWD=$(pwd -P); } ;; *) ask() { cd -P .; } ;; esac
into() { { cd -P "$1" && ask && [ "$PWD" = "$1" ]; } >/dev/null 2>&1 || { cd /; return 1; }; }
tree_in() {
  cd -P "$1" >/dev/null && ask >/dev/null || exit
  tree=${PWD%/}/$2
  [ -e "./$2" ] || [ -L "./$2" ] || mkdir -m 700 "./$2" || exit
  into "$tree" || { echo "$tree is not a directory, but a link, or it can't be entered" >&2; exit 1; }
}
enter() {
  into "$tree${1:+/$1}" && return
  into "$tree" || return
  rest=$1/
  while [ -n "$rest" ]; do
    name=${rest%%/*} rest=${rest#*/} at=$PWD
    into "$at/$name" || { into "$at" && directory "./$name" && into "$at/$name"; } || return
  done
}
directory() {
  if [ -L "$1" ] && [ -n "$links" ]; then return 2; fi
  if [ -L "$1" ] || [ ! -d "$1" ]; then rm -f "$1" && mkdir -m 755 "$1"
  else [ -x "$1" ] || chmod u+rwx "$1"; fi
}
