#!/usr/bin/env bash
# Prints the path of VictoriaLogs: the one that VICTORIALOGS names, else victoria-logs of PATH, else the release of
# docker-compose.yaml in the directory that is given. With `build` as the second argument Go builds that one first, with
# the Go of PATH or of go.lock. Status 1: there is none.
set -euo pipefail
into=$1
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^ *image: victoriametrics\/victoria-logs://p' docker-compose.yaml)
built=$into/victoria-logs-$version

say() { echo "log store: $*" >&2; }
. tests/telemetry/go.sh

build() {
  say "building VictoriaLogs $version with Go: once, a minute"
  local made
  made=$(mktemp -d "$PWD/$into/victoria-logs-XXXXXX")
  if GOBIN=$made go install "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@$version" >"$built.log" 2>&1; then
    mv "$made/victoria-logs" "$built"
  else
    say "Go cannot build it: $(tail -n 1 "$built.log")"
  fi
  rm -rf "$made"
  [ -x "$built" ]
}

for program in "${VICTORIALOGS:-}" victoria-logs; do
  if [ -n "$program" ] && command -v "$program"; then exit 0; fi
done
mkdir -p "$into"
if [ -x "$built" ] || { [ "${2:-}" = build ] && find_go && build; }; then
  command -v "$built"
  exit 0
fi
say "VictoriaLogs is not there: make logstore builds it"
exit 1
