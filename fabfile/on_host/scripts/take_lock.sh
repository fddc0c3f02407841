#!/bin/sh
# Makes the directories of a deploy_to, and takes its lock.
# In:   $deploy_to, $releases, $shared, and of our own state $own, $locks, $incoming; "$@": all of its
#       directories. $token: ours; $owner: who we are, as JSON; $highest: the last number of a lock. See also
#       locks.sh and expired.sh.
# Out:  fields apart by tabs, the second is $token, and no newline:
#       taken TOKEN NUMBER ODD OWNER   (a blank before ODD; OWNER is the last one, where its lock had run out)
#       held TOKEN "" OWNER            ("" while its owner has not signed it)
#       refused TOKEN PATH WHY
# Exit: 0; 1 where something can't be written, and stderr says what
: "${deploy_to?}" "${releases?}" "${shared?}" "${own?}" "${locks?}" "${incoming?}"
: "${token?}" "${owner?}" "${highest?}"
. ./locks.sh
. ./expired.sh
. ../../remote/scripts/write_file.sh
refused() { printf 'refused\t%s\t%s\t%s' "$token" "$1" "$2"; exit 0; }
held() { printf 'held\t%s\t\t' "$token"; signed "$1"; exit 0; }
taken() { printf 'taken\t%s\t%s %s\t%s' "$token" "$1" "$odd" "$2"; exit 0; }

# They may lie on another disk; but whoever made that link must be one who may.
for d in "$deploy_to" "$releases" "$shared"; do
  [ -L "$d" ] || continue
  [ -d "$d/" ] || refused "$d" "it is a link to $(readlink "$d"), which is not a directory"
  [ -z "$(find "$d" -prune ! -user "$(id -u)" ! -user 0 2>/dev/null)" ] ||
    refused "$d" "it is a link to $(readlink "$d"), made by another account"
done
umask 022
mkdir -p "$releases" "$shared" || exit 1
umask 077
for d; do
  [ ! -L "$d" ] || refused "$d" "it is a link to $(readlink "$d")"
  [ ! -e "$d" ] || [ -d "$d" ] || refused "$d" 'it is not a directory'
  [ -d "$d" ] || mkdir -p "$d" || exit 1
done
others() { find "$@" -prune ! -user "$(id -u)" 2>/dev/null | head -n 1; }
other=$(others "$@")
# Not each file system has owners: there what we make is not ours either.
probe=$own/owner.probe
rm -f "$probe"
[ -z "$other" ] || { : > "$probe"; [ -n "$(others "$probe")" ]; } || refused "$other" "$(ls -ld "$other")"
rm -f "$probe"
# An earlier version has left it open to other accounts. Not what is in incoming/: those files have the modes
# of the source, and may be one with the cache's.
bits='-perm -1 -o -perm -2 -o -perm -4 -o -perm -10 -o -perm -20 -o -perm -40'
# shellcheck disable=SC2086  # these are words
if [ -n "$(find "$own" -prune '(' $bits ')')" ]; then
  for d; do
    case $d in "$own"|"$incoming") chmod 700 "$d" ;; *) chmod -R go-rwx "$d" ;; esac 2>/dev/null
  done
fi

cd "$locks" >/dev/null || exit 1
find_top
from=
if [ "$top" -gt 0 ] && [ ! -e "$top/released" ]; then
  case $(signed "$top") in *"$token"*) taken "$top" '' ;; esac
  expired || held "$top"
  # Not with `:`, which ends the shell where the winner of a race has just removed that directory.
  from=$(signed "$top"); true 2>/dev/null > "$top/released"
fi
[ "$top" -lt "$highest" ] || refused "$locks/$top" 'there is no number after that'
mine=$((top + 1))
# What is no lock of ours is passed over.
while [ -L "$mine" ] || { [ -e "$mine" ] && [ ! -d "$mine" ]; }; do mine=$((mine + 1)); done
mkdir "$mine" 2>/dev/null || { [ -d "$mine" ] || { mkdir "$mine"; exit 1; }; held "$mine"; }
( cd "$mine" >/dev/null && ln -s "$token" token && write_file owner "$owner" ) || { [ ! -d "$mine" ] || exit 1; }
find_top
if [ "$top" != "$mine" ]; then true 2>/dev/null > "$mine/released"; held "$top"; fi
for d in *; do if number "$d" && [ "$d" -lt "$mine" ]; then rm -rf "./$d"; fi; done
# What nobody else can know: it keys the names of jobs.
case $(head -c 64 "$own/key" 2>/dev/null) in
  ''|*[!0-9a-f]*)
    rm -rf "${own:?}/key.new"  # never a word of a command, which others might see
    head -c 4096 /dev/urandom 2>/dev/null | tr -dc 0-9a-f | head -c 32 > "$own/key.new"
    replace_file "$own/key.new" "$own/key" ;;
esac
taken "$mine" "$from"
