#!/bin/sh
# shellcheck disable=SC2154  # $tree is set by tree_in
# Brings the tree $tree up to what is wanted, in phases. A phase is a function of lines `at DIRECTORY ./NAME …`
# that stands behind this; `phases` calls all of them, and `modes` those that set modes.
# In: the functions of enter.sh; $source, the directory with what is to be written; $staged: that is a staging
#     directory, which is used up ("": it is only read); $links: a link in the place of a directory stays.
# at DIRECTORY ./NAME …: $list says what is done: "paths" and "directories" print them, else the command $each
#     gets the names, in that directory.
# phase NAME EACH WHERE COMMAND: does that phase; EACH does it directory by directory, and COMMAND, run in WHERE,
#     for all at once.
: "${source?}" "${staged?}" "${links?}"
at() {
  d=$1; shift
  case $list in
    paths) for n; do printf '%s\0' "./$d${d:+/}${n#./}"; done ;;
    directories)
      while [ -n "$d" ]; do
        if [ -e "./$d" ] || [ -L "./$d" ]; then printf '%s\0' "./$d"; fi
        case $d in */*) d=${d%/*} ;; *) d= ;; esac
      done ;;
    *) $each "$@" ;;
  esac
}
phase() {
  does=$1 each=$2 where=$3; shift 3
  into "$tree" || return
  if [ -n "$plain" ] && [ $# != 0 ]; then
    (list=paths; cd "$where" && $does | xargs -0 -r "$@") 2>/dev/null && return
  fi
  list=; $does
}
removed() {
  into "$tree${d:+/$d}" || return 0
  rm -f "$@" 2>/dev/null && return
  # A directory there was made by hand.
  for n; do if [ -L "$n" ] || [ ! -d "$n" ]; then rm -f "$n" || return; fi; done
}
# Only when it is empty: what somebody put there by hand is not ours to remove.
dropped() {
  into "$tree${d:+/$d}" || return 0
  rmdir "$@" 2>/dev/null && return
  for n; do [ -n "$links" ] || [ ! -L "$n" ] || rm -f "$n" || return; done
}
made() {
  enter "$d" || { [ $? = 2 ]; return; }
  for n; do directory "$n" || [ $? = 2 ] || return; done
}
moded() {
  for n; do ! into "$tree/${d:+$d/}${n#./}" || chmod "$mode" . || return; done
}
placed() {
  enter "$d" || { [ $? = 2 ]; return; }
  # Nothing of one component is followed by what comes then; a directory would be moved into.
  for n; do [ -L "$n" ] || [ ! -d "$n" ] || rm -rf "$n" || return; done
  for n; do set -- "$@" "$source/${d:+$d/}${n#./}"; shift; done
  if [ -z "$staged" ]; then cp -a --remove-destination --reflink=auto "$@" .; return; fi
  # One process for all, where links can be made; not each file system has them.
  cp -lP --remove-destination "$@" . 2>/dev/null || mv -f "$@" .
}
# Whether each directory on the way is a real one, and ours alone to write to; or real and in a tree that
# nobody else can enter. An account that may write to one could put a link in the place of what is in it.
only_ours() {
  into "$tree" || return
  { printf '.\0'; list=directories; phases; list=paths; modes; } 2>/dev/null |
    xargs -0 -r stat -c %A:%u 2>&1 | awk -v me="$(id -u)" '
      NR == 1 && $0 == "drwx------:" me { alone = 1 }
      !/^d/ || (!alone && !($0 ~ "^d....-..-.:" me "$")) { odd = 1 }
      END { exit odd || !NR }'
}
# Sets $plain, and a handle on the tree: its own path may be led elsewhere while we work.
look_at_the_way() {
  plain=
  exec 8< . && [ -d /proc/self/fd/8/. ] && only_ours && plain=yes
  :
}
