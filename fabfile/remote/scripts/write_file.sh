#!/bin/sh
# write_file PATH TEXT: puts it there by a rename; nothing is written through a link.
# replace_file FRESH PATH: renames it; mv alone would move into a directory, or a link to one.
replace_file() { { [ ! -d "$2" ] || rm -rf "$2"; } && mv -f "$1" "$2"; }
write_file() {
  if [ -L "$1.new" ] || [ -d "$1.new" ]; then rm -rf "$1.new" || return; fi
  printf %s "$2" > "$1.new" && replace_file "$1.new" "$1"
}
