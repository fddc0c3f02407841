#!/bin/sh
# Links every shared path into a release, and follows each link to where it leads. What isn't in shared/ yet is
# seeded once: from the live release if it is not shared there, and from the uploaded seeds; else a directory
# is made (a file is not: its link dangles until somebody puts it there).
# In:   $shared, the directory; $parent and $name, of the release; $live, the live release ("" : there is none);
#       $seeds, what was uploaded ("": nothing); $keep: links of the live release stay. "$@": five for each path:
#       dir or file; "fresh" where it is not shared in the live release, else ""; its directory; its name; the
#       way from there up to the release.
# Out:  way WAY, from a release to shared/; kept PATH, copied from the live release; left PATH, a link there that
#       was not copied
# Exit: 0; else a path can't be shared, and stderr says why
: "${shared?}" "${parent?}" "${name?}" "${live?}" "${seeds?}" "${keep?}"
. ./enter.sh
set -e
# What $1, which nobody else can get at, has and the directory $2 has not goes there. Both are physical paths.
fill() {
  into "$2" || return
  for s in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    n=${s##*/}
    if [ ! -e "$s" ] && [ ! -L "$s" ]; then continue; fi
    if [ ! -e "./$n" ] && [ ! -L "./$n" ]; then mv -f "$s" . || return
    elif [ -L "$s" ] || [ ! -d "$s" ] || [ -L "./$n" ] || [ ! -d "./$n" ]; then :
    else (fill "$s" "$2/$n") || return; fi
  done
}
# The relative way from the directory $1 to $2, both physical paths.
way() {
  way='' up=$1
  until case $2/ in "${up%/}"/*) : ;; *) false ;; esac; do up=${up%/*} way=../$way; done
  rest=${2#"${up%/}"}; way=$way${rest#/}
}
refuse() { echo "$1" >&2; exit 1; }
# Puts $base into the working directory, a place in shared/, by one rename: a cut never leaves half of it.
# It is gathered in a directory that only we can enter. What the site has put there before it was shared wins.
seed() {
  place=$PWD old=${live:+$live/$path} new=${seeds:+$seeds/$path}
  if [ -L "$old" ]; then [ -z "$fresh" ] || echo "left $path"; old=
  elif [ -z "$fresh" ] || [ ! -e "$old" ]; then old=
  elif [ -d "$old" ]; then [ "$kind" = dir ] || old=
  else [ "$kind" = file ] || old=; fi
  [ -e "$new" ] || [ -L "$new" ] || new=
  if [ -L "./$base" ]; then return; fi
  if [ -e "./$base" ]; then [ -d "./$base" ] && [ -d "$old" ] || return 0; fi
  if [ -z "$old$new" ]; then
    [ "$kind" = file ] || mkdir -m 755 "./$base"; return
  fi
  rm -rf "./$base.seed"; mkdir -m 700 "./$base.seed"; into "$place/$base.seed"
  if [ -n "$old" ]; then
    cp -a "$old" "./$base" || refuse "what the live release has at $path can't be copied to shared/"
    echo "kept $path"
    if [ -d "./$base" ] && [ -d "$new" ]; then ( fill "$new" "$PWD/$base" ); fi
  else cp -a "$new" "./$base"; rm -rf "$new"; fi
  into "$place"
  if [ -e "./$base" ]; then ( fill "$place/$base.seed/$base" "$place/$base" )
  else mv -f "./$base.seed/$base" .; fi
  rm -rf "./$base.seed"
}
share() {
  kind=$1 fresh=$2 folder=$3 base=$4 up=$5 path=$3${3:+/}$4
  if [ ! -e "$shared/$path" ] && [ ! -L "$shared/$path" ] || [ -n "$fresh" ]; then
    tree=$shared links=kept
    enter "$folder" || refuse "$shared/$folder leads through a link, or a file: make $shared/$path yourself"
    seed
  fi
  if [ "$kind" = dir ] && [ -e "$shared/$path" ] && [ ! -d "$shared/$path" ]; then
    refuse "$shared/$path is to be a shared directory, but it is a file"
  elif [ "$kind" = file ] && [ -d "$shared/$path" ]; then
    refuse "$shared/$path is to be a shared file, but it is a directory"
  fi
  tree=$release links=$keep
  enter "$folder" || refuse "$folder is a link in the live release: what is below it can't be shared"
  rm -rf "./$base"; ln -sn "$up../$way/$path" "./$base"
  # Where it leads is followed now: a link that dangles is a release without its data.
  [ ! -d "./$base" ] || [ "$kind" = dir ] || refuse "$path leads to a directory"
  # ksh93 goes up by the name it knows, which may be the one before a rename.
  ask >/dev/null && cd -P "./$up../$way${folder:+/$folder}" >/dev/null && ask >/dev/null && here=$PWD
  cd -P "$shared${folder:+/$folder}" >/dev/null && ask >/dev/null
  [ "$here" = "$PWD" ] || refuse "the link $path of the release does not lead to $shared/$path"
  [ "$kind" = file ] || [ -d "./$base" ] || refuse "$shared/$path is not there"
}

mkdir -p "$shared"
cd -P "$shared" >/dev/null && ask >/dev/null; shared=$PWD
tree_in "$parent" "$name"
release=$tree; way "${release%/*}" "$shared"
printf 'way %s\n' "../$way"
while [ $# != 0 ]; do
  share "$1" "$2" "$3" "$4" "$5"
  shift 5
done
