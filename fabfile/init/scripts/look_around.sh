#!/bin/sh
# What an account can deploy to, and what serves it. Prints rows of fields that a tab separates:
#   home PATH · parent PATH (a folder for sites, in which we may make one) · site KIND PATH (KIND: releases, where
#   there is a link current beside releases/; folder, of files; empty, and ours to fill) · web ACCOUNT ·
#   fpm SERVICE · may SERVICE (sudo reloads it without a password) · end
# In: $most, how many sites are printed of each parent.
: "${most?}"
row() { printf '%s\t' "$@" | sed 's/.$//'; echo; }
printable() { case $1 in *[![:print:]]*) return 1 ;; esac; }
kind() {
  if [ -L "$1/current" ] && [ -d "$1/releases" ]; then echo releases
  elif [ -e "$1/index.html" ] || [ -e "$1/index.php" ] || [ -e "$1/public/index.php" ]; then echo folder
  elif [ -w "$1" ] && [ -z "$(find "$1/." ! -name . -prune 2>/dev/null | head -n 1)" ]; then echo empty; fi
}
printable "$HOME" && row home "$HOME"
for parent in /srv /srv/www /var/www "$HOME"; do
  if ! [ -d "$parent" ] || ! printable "$parent"; then continue; fi
  if [ -w "$parent" ] && [ -x "$parent" ]; then row parent "$parent"; fi
  n=0
  for site in "$parent"/*; do
    [ "$n" -lt "$most" ] || break
    if [ -d "$site" ] && printable "$site"; then
      found=$(kind "$site")
      if [ -n "$found" ]; then row site "$found" "$site"; n=$((n + 1)); fi
    fi
  done
done
processes=$(ps -eo user=,comm= 2>/dev/null || ps -o user,comm 2>/dev/null)
printf '%s\n' "$processes" | awk '$1 != "root" && $2 ~ /^(nginx|apache2|httpd|caddy|lighttpd|php-fpm)/ { print $1 }' |
  sort | uniq -c | sort -rn | awk 'NR == 1 { print "web\t" $2 }'
printf '%s\n' "$processes" | awk '$2 ~ /^php-fpm[0-9.]*$/ { sub(/^php-fpm/, "", $2); print "php" ($2 == "" ? "-fpm" : $2 "-fpm") }' |
  sort -u | head -n 8 | while read -r service; do
    row fpm "$service"
    if sudo -n -l systemctl reload "$service" </dev/null >/dev/null 2>&1; then row may "$service"; fi
  done
row end
