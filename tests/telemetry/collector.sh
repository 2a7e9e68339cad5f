#!/usr/bin/env bash
# Prints the path of an OpenTelemetry Collector that takes monitoring/otel-collector/config.yaml: the one that OTELCOL
# names, else otelcol-contrib or otelcol of PATH, else the slim one of builder-config.yaml, built into the directory that
# is given (once for each content of that file) with the Go of PATH or of go.lock, else the image's program out of
# Docker. Status 1: there is none; 2: the one that OTELCOL names will not do.
set -euo pipefail
into=$1
cd "$(dirname "$0")/../.."
manifest=monitoring/otel-collector/builder-config.yaml
version=$(sed -n 's/^  version: //p' "$manifest")
slim=$into/otelcol-$(sha256sum "$manifest" | cut -c -12)
image=$into/otelcol-contrib-$version

say() { echo "collector: $*" >&2; }
. tests/telemetry/go.sh

accepted() {
  local refusal
  refusal=$("$1" validate --config monitoring/otel-collector/config.yaml --config tests/telemetry/gateway.yaml 2>&1) && return
  say "$1 refuses the configuration: $(tail -n 1 <<<"$refusal")"
  return 1
}

take() {
  command -v "$1"
  exit 0
}

build() {
  say "building $version with Go: once, some three minutes"
  local made
  made=$(mktemp -d "$into/otelcol-XXXXXX")
  sed "s|^  output_path:.*|  output_path: $made|" "$manifest" >"$made/builder.yaml"
  if go run "go.opentelemetry.io/collector/cmd/builder@v$version" --config "$made/builder.yaml" >"$slim.log" 2>&1; then
    mv "$made/otelcol-baliblissed" "$slim"
  else
    say "Go cannot build it: $(tail -n 1 "$slim.log")"
  fi
  rm -rf "$made"
  [ -x "$slim" ]
}

unpack() {
  say "taking $version out of its image"
  local container
  container=$(docker create "otel/opentelemetry-collector-contrib:$version" 2>"$image.log") || {
    say "Docker cannot have its image: $(tail -n 1 "$image.log")"
    return 1
  }
  docker cp --quiet "$container:/otelcol-contrib" "$image" && docker rm "$container" >/dev/null
}

if [ -n "${OTELCOL:-}" ]; then
  if accepted "$OTELCOL"; then take "$OTELCOL"; fi
  say "OTELCOL=$OTELCOL: want a collector with the components of $manifest"
  exit 2
fi
for program in otelcol-contrib otelcol; do
  if command -v "$program" >/dev/null && accepted "$program"; then take "$program"; fi
done
mkdir -p "$into"
# These two have what is needed: were they to refuse the configuration, its tests are to fail and not to be skipped.
if [ -x "$slim" ] || { find_go && build; }; then take "$slim"; fi
if [ -x "$image" ] || { command -v docker >/dev/null && unpack; }; then take "$image"; fi
say "none is to be had: neither OTELCOL nor PATH names one, and neither Go nor Docker makes one"
exit 1
