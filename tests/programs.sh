#!/usr/bin/env bash
# Prometheus' own programs, which read the rules, run the dashboards' queries and serve the load test: promtool, amtool,
# prometheus, alertmanager; nginx, which stands in front of the service's Unix socket; and PgBouncer, which stands in
# front of PostgreSQL. What is on PATH is left at that; else Debian's packages are unpacked into the directory that is
# given, so that nothing is installed and no service is started.
set -euo pipefail
into=$1 PACKAGES="prometheus prometheus-alertmanager"

on_path() {
  for program in promtool amtool prometheus; do command -v "$program" >/dev/null || return 1; done
  command -v alertmanager >/dev/null || command -v prometheus-alertmanager >/dev/null
}

fetch() { apt-get download -qq -o APT::Sandbox::User=root "$@"; }

# Names of packages.
unpack() {
  mkdir -p "$into"
  cd "$into"
  fetch "$@" 2>/dev/null || { apt-get update -qq && fetch "$@"; }
  for package in *.deb; do dpkg-deb -x "$package" .; done
}

has_nginx() { command -v nginx >/dev/null || [ -e "$into/usr/bin/nginx" ]; }

# Debian has it where the commands of root are.
unpack_nginx() { (unpack nginx && mkdir -p usr/bin && ln -sf ../sbin/nginx usr/bin/nginx); }

has_pgbouncer() { command -v pgbouncer >/dev/null || [ -e "$into/usr/bin/pgbouncer" ]; }

# Its libraries for events and for names are few machines' own. Their packages are named after their versions.
unpack_pgbouncer() (
  libraries=$(apt-cache depends pgbouncer | sed -nE 's/^ *Depends: (lib(event|c-?ares)[^ ]*)$/\1/p') || exit 1
  # shellcheck disable=SC2086 # names of packages
  unpack pgbouncer $libraries && mkdir -p usr/bin && libraries=$(echo "$PWD"/usr/lib/*-linux-gnu*) &&
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$libraries" "$PWD/usr/sbin/pgbouncer" >usr/bin/pgbouncer &&
    chmod +x usr/bin/pgbouncer
)

# Debian's Alertmanager reads its template below /usr/share. It gets a view of the files in which the unpacked one is
# there; no other process sees it.
wrap() {
  # shellcheck disable=SC2016 # for the inner shell
  local see='mount --bind "$0" /usr/share && exec "$@"'
  unshare --map-root-user --mount sh -c "$see" "$PWD/usr/share" true 2>/dev/null || return 1
  printf '#!/bin/sh\nexec unshare --map-root-user --mount sh -c %s "%s" "%s" "$@"\n' \
    "'$see'" "$PWD/usr/share" "$PWD/usr/bin/prometheus-alertmanager" >usr/bin/alertmanager
  chmod +x usr/bin/alertmanager
}

install_alertmanager() {
  [ "$(id -u)" = 0 ] && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus-alertmanager >/dev/null
}

has_all() { on_path || [ -e "$into/complete" ]; }

has_all && has_nginx && has_pgbouncer && exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "prometheus, alertmanager, nginx or pgbouncer is not on PATH, and there is no apt: what needs them is skipped or refused" >&2
  exit 0
fi
has_nginx || unpack_nginx || echo "Debian's nginx could not be had: the tests behind it are skipped or refused" >&2
has_pgbouncer || unpack_pgbouncer || echo "Debian's pgbouncer could not be had: the tests behind it are skipped or refused" >&2
has_all && exit 0
# shellcheck disable=SC2086 # two words
unpack $PACKAGES || { echo "Debian's prometheus packages could not be had" >&2; exit 0; }
wrap || install_alertmanager || echo "no namespace for Alertmanager's files and no root to install it: no load test here" >&2
touch complete
