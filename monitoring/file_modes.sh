#!/bin/sh
# Checks that the containers' users, who neither own the mounted files nor are in their group, can read them. A checkout
# made with umask 077 or 027 breaks that, and each program would end on it in its own words. Status 1: some cannot be read.
set -eu
cd "$(dirname "$0")/.."
mounted=$(sed -n 's/^[^.#]*\(\.\/[^:"]*\):\/.*:ro.*/\1/p' docker-compose.yaml)
# shellcheck disable=SC2086 # paths without blanks, each a word
unreadable=$(find $mounted \( -type d ! -perm -005 -o -type f ! -perm -004 \))
[ -z "$unreadable" ] && exit
# shellcheck disable=SC2086
{
  echo "The containers' users cannot read these files of docker-compose.yaml (a checkout with umask 077?):"
  printf '  %s\n' $unreadable
  echo "To let everybody of this machine read them:"
  echo "  chmod -R go+rX" $mounted
} >&2
exit 1
