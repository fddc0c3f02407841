#!/bin/sh
# Makes a manifest of the one before: these functions, in their order.
# In:   $base, the manifest before; $fresh, the new one; $header, its first line; $digest, the sha256 that it must
#       have.
# Exit: 1 where it has another
: "${base?}" "${fresh?}" "${header?}" "${digest?}"
# On standard input: the lines that are not kept.
keep_others() (
  umask 077
  rm -rf "$fresh" "$fresh.gone"
  cat > "$fresh.gone"
  { printf '%s\n' "$header"; tail -n +2 "$base" | { grep -avxFf "$fresh.gone" || :; }; } > "$fresh"
  rm -f "$fresh.gone"
)
# On standard input: the lines that are new.
add() { cat >> "$fresh"; }
check() {
  [ "$(sha256sum < "$fresh" | cut -c 1-64)" = "$digest" ] && return
  echo "the manifest on the host is not what it was when this deployment began" >&2
  exit 1
}
