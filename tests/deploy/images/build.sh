#!/usr/bin/env bash
# A container engine and images where no registry can be reached: what tests/deploy/test_image.py runs on.
#   build.sh require reports what is missing that `packages` does not install, and how to get it; fails if anything is
#   build.sh host    prints the DOCKER_HOST of the engine that answers (empty: the machine's own); fails where none does
#   build.sh up      starts an engine unless DOCKER_HOST or the default socket answers; prints DOCKER_HOST for it
#   build.sh images  makes the base image (debootstrap), the backend image and the stand-ins; what is there stays
#   build.sh clean   removes the images, so that the next `images` starts from nothing
#   build.sh down    ends the engine that `up` started, and only that one
# Needs root, dockerd and debootstrap (`build.sh packages` installs Debian's where a command is missing).
# The engine is this checkout's own: own socket, own data below build/, no bridge and no packet filter rules of its own,
# so it stands beside any other engine. Its containers reach the loopback address and one another, nothing else.
set -euo pipefail
cd "${BASH_SOURCE[0]%/*}/../../.."
root=$PWD

require() { # uses bash only: nothing else may be installed yet
  local missing=0 line program package why
  lacks() { # what, why, command
    printf '%s (%s). Get it: %s\n' "$1" "$2" "$3" >&2
    missing=1
  }
  [ "$EUID" = 0 ] || lacks "not root" "an engine is started, and a base image is made with mounts" "sudo make test-image"
  # With apt and root, `packages` installs them.
  command -v apt-get >/dev/null || while read -r program package why; do
    command -v "$program" >/dev/null || lacks "$program is not on PATH, and there is no apt-get to install it" "$why" \
      "apt-get install $package, or what your distribution calls it"
  done <<END
docker docker.io it builds and runs the images
dockerd docker.io it is the engine, which is started if none answers
debootstrap debootstrap it makes the base image, since none is pulled
END
  if [ -n "${DOCKER_HOST:-}" ] && command -v docker >/dev/null && ! docker info >/dev/null 2>&1; then
    lacks "no engine answers at DOCKER_HOST=$DOCKER_HOST" "it builds and runs the images" \
      "start it, or unset DOCKER_HOST: if none answers, this checkout starts its own"
  fi
  return $missing
}

if [ "${1:-}" = require ]; then
  require
  exit
fi
data=$root/build/deploy/engine
# Sockets have short paths, so they do not live below the checkout.
runtime=${TMPDIR:-/tmp}/bali-engine-$(printf %s "$root" | cksum | cut -d ' ' -f 1)
BASE=baliblissed-test/base:1 STANDINS=baliblissed-test/standins:1
BACKEND=$(sed -n 's/^ *image: \(baliblissed\/backend:.*\)$/\1/p' docker-compose.yaml | sort -u)
# The engine's old builder: it needs no plug-in, and the image must not depend on the new one either.
export DOCKER_BUILDKIT=0

await() { # seconds command...
  local seconds=$1
  shift
  for _ in $(seq $((seconds * 5))); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  return 1
}

use_engine() { # the engine that answers: the one named, the machine's, or this checkout's own
  docker info >/dev/null 2>&1 && return
  DOCKER_HOST=unix://$runtime/docker.sock
  export DOCKER_HOST
  docker info >/dev/null 2>&1
}

has() { docker image inspect "$1" >/dev/null 2>&1; }

host() {
  use_engine && printf '%s\n' "${DOCKER_HOST:-}"
}

packages() {
  local missing=()
  # By command and not by package: an engine from elsewhere stays, while Debian's would take its place.
  { command -v docker && command -v dockerd; } >/dev/null || missing+=(docker.io)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  [ ${#missing[@]} = 0 ] && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed: ${missing[*]}; without root and apt they have to be there" >&2
    exit 1
  fi
  # Nothing is started by the installation: the engine here starts by hand.
  apt-get update -qq
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

up() {
  if ! use_engine; then
    mkdir -p "$data" "$runtime"
    setsid dockerd --bridge=none --iptables=false --ip6tables=false \
      --data-root "$data" --exec-root "$runtime/exec" --pidfile "$runtime/docker.pid" --host "$DOCKER_HOST" \
      >"$runtime/docker.log" 2>&1 </dev/null &
    await 60 docker info || {
      echo "no engine answers, and dockerd does not start. The end of its log, $runtime/docker.log:" >&2
      tail -n 20 "$runtime/docker.log" >&2
      exit 1
    }
  fi
  host
}

down() {
  [ -e "$runtime/docker.pid" ] || return 0
  local pid
  pid=$(cat "$runtime/docker.pid")
  # A machine that went down leaves the file behind, and the number to somebody else.
  ended() { ! grep -qs "$runtime/docker.pid" "/proc/$pid/cmdline"; }
  ended || kill "$pid"
  await 60 ended
  umount "$runtime"/exec/netns/* 2>/dev/null || true
  rm -rf "$runtime"
}

base() {
  local tree
  tree=$(mktemp -d)
  chmod 755 "$tree" # the image's root directory, which other users have to enter
  # shellcheck disable=SC2064 # the directory of now
  trap "rm -rf '$tree'" EXIT
  # The same Debian release as the image that is named in the Dockerfile, with its Python from packages.
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$(sed -n 's/^ARG BASE_IMAGE=.*-\([a-z]*\)$/\1/p' Dockerfile)" "$tree" >"$root/build/deploy/debootstrap.log" \
    || { tail "$root/build/deploy/debootstrap.log" >&2; exit 1; }
  # A machine behind an intercepting proxy trusts it by its own bundle; so does what is built here.
  cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
  rm -rf "$tree"/var/cache/apt/archives/*.deb
  tar -C "$tree" -c . | docker import --change 'CMD ["bash"]' - "$BASE" >/dev/null
  rm -rf "$tree"
}

images() {
  use_engine || { echo "no engine answers: build.sh up" >&2; exit 1; }
  mkdir -p build/deploy
  timed() { local start=$SECONDS; "${@:2}" && echo "$1: $((SECONDS - start)) s"; }
  has "$BASE" || timed "base image" base
  local build=(docker build --network host --build-arg "BASE_IMAGE=$BASE")
  # An index that pip is told of by the environment is told to the build as well.
  [ -z "${PIP_INDEX_URL:-}" ] || build+=(--build-arg PIP_INDEX_URL)
  timed "backend image" "${build[@]}" --quiet --tag "$BACKEND" .
  timed "stand-in image" "${build[@]}" --quiet --tag "$STANDINS" \
    --file tests/deploy/images/standins.Dockerfile tests/deploy/images
}

clean() {
  use_engine || return 0
  docker image rm --force "$BACKEND" "$STANDINS" "$BASE" >/dev/null 2>&1 || true
  docker image prune --force >/dev/null
}

case ${1:-} in
  packages | host | up | images | clean | down) "$1" ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
