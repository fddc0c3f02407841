#!/bin/sh
# shellcheck disable=SC2154  # what goes in is set by who calls
# Whole directories that are new, moved to their place. Where somebody has made the same by hand, what is in it
# beside ours stays.
# In: what apply.sh has; $d, the directory, and the names in it as positional parameters.
grafted() {
  enter "$d" || { [ $? = 2 ]; return; }
  for n; do
    s=$source/${d:+$d/}${n#./}
    if [ -L "$s" ] || [ ! -d "$s" ]; then continue; fi
    if [ -L "$n" ] && [ -n "$links" ]; then continue; fi
    if [ -L "$n" ] || [ ! -d "$n" ]; then rm -f "$n"; else
      (spare "$PWD/${n#./}" "$s") && rm -rf "$n" || return
    fi
    mv -f "$s" . || return
  done
}
# What the directory $1 has and $2 has not goes from there to here; both are physical paths, and nobody else
# can get at $2. A link in $1 that $links says to keep wins over a directory.
spare() {
  into "$1" || return
  for n in * .[!.]* ..?*; do
    if [ ! -e "./$n" ] && [ ! -L "./$n" ]; then continue; fi
    if [ ! -e "$2/$n" ] && [ ! -L "$2/$n" ]; then mv -f "./$n" "$2/" || return
    elif [ -L "$2/$n" ] || [ ! -d "$2/$n" ]; then :
    elif [ -L "./$n" ]; then [ -z "$links" ] || { rm -rf "${2:?}/$n" && mv -f "./$n" "$2/"; } || return
    elif [ -d "./$n" ]; then (spare "$1/$n" "$2/$n") || return
    fi
  done
}
