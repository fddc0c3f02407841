#!/bin/sh
# shellcheck disable=SC2154  # what goes in is set by the words that this comes behind
# Takes from the account's environment what could change what our scripts do (CDPATH, POSIXLY_CORRECT,
# TAR_OPTIONS, GREP_OPTIONS, …); hooks get it back. Before each script of ours.
# In: $account, the account's umask and environment, as `umask; export -p` says them, before anything was
#     changed; $standard, the directories where systems have their programs.
case ${BASH_VERSION-} in ?*)
  # shellcheck disable=SC3044  # only bash comes here
  for name in $(declare -F 2>/dev/null | sed 's/.* //'); do unset -f "$name"; done ;;
esac
set -f; IFS='
'
for name in $account; do
  name=${name%%=*}; name=${name##* }
  case $name in
    ''|*[!A-Za-z0-9_]*|[0-9]*) ;;
    # What names the account, and what its programs need to run at all.
    PATH|LC_ALL|HOME|USER|LOGNAME|SHELL|PWD|TERM|TZ|TMPDIR|TMP|TEMP) ;;
    SSH_*|XDG_*|DBUS_*|KRB5*|NIX_*|LD_*|DYLD_*|SSL_*|*_proxy|*_PROXY) ;;
    # These are the shell's, or ours.
    IFS|PPID|UID|EUID|SHELLOPTS|BASHOPTS|account|standard|name) ;;
    *) unset -v "$name" ;;
  esac
done
# To / because a start-up file may have gone to a directory that is in somebody's way, or not there any more.
unset IFS; set +f; umask 022; cd / || exit
# What POSIX has and our scripts use. Where one is not in the account's PATH, the standard places are added.
for name in \
  awk cat chmod cp cut date df find grep head id ln mkdir mv rm sed sleep sort tail touch tr wc xargs
do
  command -v "$name" >/dev/null || { PATH=$PATH:$standard; break; }
done
unset -v name standard
