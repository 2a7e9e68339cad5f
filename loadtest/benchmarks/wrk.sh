#!/usr/bin/env bash
# wrk for the benchmarks. What is on PATH is left at that; else Debian's package and its libraries are unpacked into the
# directory that is given, with a wrapper that finds them, so that nothing is installed.
set -euo pipefail
into=$1

command -v wrk >/dev/null && exit 0
[ -x "$into/wrk" ] && exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "wrk is not on PATH, and there is no apt: a slower client takes its place" >&2
  exit 0
fi
mkdir -p "$into"
cd "$into"
fetch() { apt-get download -qq -o APT::Sandbox::User=root wrk libluajit-5.1-2; }
fetch 2>/dev/null || { apt-get update -qq && fetch; } || { echo "Debian's wrk could not be had" >&2; exit 0; }
for package in *.deb; do dpkg-deb -x "$package" .; done
# shellcheck disable=SC2016 # for the wrapper
printf '#!/bin/sh\nhere=$(dirname "$0")\nLD_LIBRARY_PATH=$(echo "$here"/usr/lib/*) exec "$here/usr/bin/wrk" "$@"\n' >wrk
chmod +x wrk
