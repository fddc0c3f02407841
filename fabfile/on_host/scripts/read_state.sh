#!/bin/sh
# Says what stands under a deploy_to; changes nothing.
# In:   $root, the deploy_to; $own, our state; $name, that directory's name; $mark, 16 hex digits that nobody
#       knew; "$@": paths that are shared. The limits of what is read: $record_blocks of 512 bytes;
#       $manifest_bytes; $touched_bytes and $touched_lines.
# Out:  the mark; lines of a word and fields, apart by tabs (see state.py); the mark, where `current` leads,
#       and the mark again. Names that could hold anything are left out, and counted as odd.
# Exit: 0
: "${root?}" "${own?}" "${name?}" "${mark?}" "${record_blocks?}"
: "${manifest_bytes?}" "${touched_bytes?}" "${touched_lines?}"
tab=$(printf '\t')
kind() {
  if [ -L "$1" ]; then k='link'; elif [ -d "$1" ]; then k='dir'
  elif [ -e "$1" ]; then k='file'; else k='none'; fi
}
is_id() {
  case $1 in *[!0-9-]*|*-*-*|*-|*-0*|*-1) return 1 ;; *-*) ;; ??????????????) return 0 ;; *) return 1 ;; esac
  i=${1%-*}
  case $i in ??????????????) ;; *) return 1 ;; esac
  case ${1#"$i"} in ???????????*) return 1 ;; esac
}
# What is known of the manifest in $2, as the one called $1.
kept() {
  [ -f "$2/manifest" ] && [ "$(wc -c < "$2/manifest")" -le "$manifest_bytes" ] || return 0
  if [ -f "$2/touched" ]; then
    [ "$(wc -c < "$2/touched")" -le "$touched_bytes" ] || return 0
    [ "$(wc -l < "$2/touched")" -le "$touched_lines" ] || return 0
    sed "s/^/touched$tab$1$tab/" "$2/touched"
  fi
  printf 'manifest\t%s\t%s\n' "$1" "$(sha256sum < "$2/manifest" 2>/dev/null | cut -c 1-64)"
}

echo "$mark"
kind "$root"; printf 'root\t%s\n' $k
kind "$own"; printf 'own\t%s\n' $k
kind "$root/cache"; printf 'cache\t%s\n' $k
kind "$root/current"; [ -d "$root/current/" ] && leads=yes || leads=no
printf 'current\t%s\t%s\n' "$k" "$leads"
t=; [ $k != link ] || t=$(readlink "$root/current"; printf .)
t=${t%.}; t=${t%
}
for d in "$root"/releases/*; do
  n=${d##*/}
  if is_id "$n"; then kind "$d"; [ $k = none ] || printf 'release\t%s\t%s\n' "$n" $k; fi
done
if [ -f "$own/key" ] && [ ! -L "$own/key" ]; then printf 'key\t%s\n' "$(head -c 64 "$own/key" | head -n 1)"; fi
if [ -f "$own/went-back" ] && [ ! -L "$own/went-back" ]; then
  printf 'back\t%s\n' "$(head -c 200 "$own/went-back" | head -n 1)"
fi
odd=0
for d in "$own"/releases/*; do
  n=${d##*/}
  if is_id "$n"; then [ ! -e "$d/record.json" ] && [ ! -L "$d/record.json" ] || printf 'recorded\t%s\n' "$n"
  elif [ -e "$d" ]; then odd=$((odd + 1)); fi
done
printf 'odd\t%s\t%s\n' "$name/releases" $odd
# All of them with few processes: no links, no pipes, nothing large; each line with the name of its file.
[ ! -d "$own/releases" ] || ( cd "$own/releases" &&
  find . -path './*/*/*' -prune -o -name record.json -type f -size "-$record_blocks" \
    -exec grep '' /dev/null {} + | sed -n "s,^\./\([0-9-]*\)/record\.json:,record$tab\1$tab,p" )
for kind in incoming jobs; do
  odd=0
  for d in "$own/$kind"/*; do
    n=${d##*/}
    case $n in
      *[!A-Za-z0-9._-]*) [ ! -e "$d" ] || odd=$((odd + 1)) ;;
      *)
        # A link in incoming/ is told too: an upload has to clear it away.
        if [ -L "$d" ]; then [ $kind = jobs ] || printf '%s\t%s\n' $kind "$n"
        elif [ -d "$d" ]; then printf '%s\t%s\n' $kind "$n"; fi ;;
    esac
  done
  printf 'odd\t%s\t%s\n' "$name/$kind" $odd
done
p=$root; while [ ! -d "$p" ] && [ -n "$p" ]; do p=${p%/*}; done
df -Pk "${p:-/}" 2>/dev/null | sed "s/^/df$tab/"
df -Pi "${p:-/}" 2>/dev/null | sed "s/^/df$tab/"
kept cache "$own/cache"
n=${t%/}; n=${n#"$root/"}; n=${n#releases/}
! is_id "$n" || kept live "$own/releases/$n"
for path; do
  if [ -e "$root/shared/$path" ] || [ -L "$root/shared/$path" ]; then printf 'shared\t%s\n' "$path"; fi
done
printf '%s%s%s\n' "$mark" "$t" "$mark"
