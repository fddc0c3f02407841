#!/bin/sh
# reflinks: whether the file system of $probe can copy without taking room. Tried with one small file, called
# that: cp itself would try each of a tree.
: "${probe?}"
reflinks() {
  rm -rf "$probe" "$probe.copy"
  echo > "$probe" && cp --reflink=always "$probe" "$probe.copy" 2>/dev/null; s=$?
  rm -f "$probe" "$probe.copy"
  [ $s = 0 ]
}
