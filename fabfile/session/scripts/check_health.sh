#!/bin/sh
# Fetches a URL until it answers as it should; a try a second.
# In:   $url; $quoted_url, the same as it stands between double quotes in a file of curl's; $want, the status;
#       $seconds from the first try to giving up
# Out:  where it does not: the last status, or what was said in its place
# Exit: 0; 1 where it does not in that time
: "${url?}" "${quoted_url?}" "${want?}" "${seconds?}"
end=$(($(date +%s) + seconds))
fetch() {
  if command -v curl >/dev/null 2>&1; then
    # Not as an argument, which every account of the host could read: it may hold a password or a token.
    printf 'url = "%s"\n' "$quoted_url" |
      curl -sS -g -o /dev/null -w '%{http_code}' --max-time "$seconds" -K - 2>&1
  elif command -v wget >/dev/null 2>&1; then
    printf '%s\n' "$url" |
      wget -S -q -T "$seconds" -t 1 --max-redirect=0 -O /dev/null -i - 2>&1 |
      sed -n 's/^ *HTTP[^ ]* \([0-9][0-9]*\).*/\1/p' | tail -n 1
  else
    echo "neither curl nor wget is there to fetch it"
  fi
}
while :; do
  got=$(fetch)
  [ "$got" = "$want" ] && exit 0
  [ "$(date +%s)" -lt "$end" ] || break
  sleep 1
done
printf '%s' "$got"
exit 1
