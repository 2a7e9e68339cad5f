#!/usr/bin/env bash
# Check the prerequisites of `make test-k8s`. Print a line for each missing one, with the reason and the command that gets
# it, and exit with 1. Leaves nothing in the cluster.
set -uo pipefail
cd "${BASH_SOURCE[0]%/*}/../.."
ANSWER_SECONDS=5
PULL_SECONDS=${K8S_PULL_SECONDS:-180}
CLUSTER='kind create cluster --image kindest/node:v1.34.0 && mkdir -p build && kind get kubeconfig >build/kubeconfig && export KUBECONFIG=$PWD/build/kubeconfig'
missing=0

lacks() { # what, why, command
  printf '%s (%s). Get it: %s\n' "$1" "$2" "$3" >&2
  missing=1
}

committed() { # the image that the overlay names, with its tag
  kubectl kustomize k8s/overlays/development | sed -n "s|^ *\(- \)\{0,1\}image: \($1:.*\)\$|\2|p" | head -n 1
}

ask() { kubectl --request-timeout="${ANSWER_SECONDS}s" "$@"; }

# A pod shows if the cluster has an image or can pull it. It meets the restricted standard and does not have to run.
pod() { # name image
  cat <<END
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "$1"}, "spec": {
  "restartPolicy": "Never", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
  "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
  "containers": [{"name": "image", "image": "$2", "imagePullPolicy": "IfNotPresent", "command": ["true"],
    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}
END
}

state() { # name: the id of the image once the node has it, else why the container waits
  ask --namespace "$namespace" get pod "$1" \
    --output='jsonpath={.status.containerStatuses[0].imageID}{.status.containerStatuses[0].state.waiting.reason}'
}

images() {
  local name variable image said deadline=$((SECONDS + PULL_SECONDS))
  local -A wanted=()
  while read -r name variable; do
    image=${!variable:-}
    [ -n "$image" ] || image=$(committed "$name")
    if [[ ! ${image##*/} == *:* ]]; then
      lacks "$variable=$image has no tag" "an image is named with its tag" "export $variable=$image:TAG"
    else
      wanted[$variable]=$image
    fi
  done <<END
baliblissed/backend K8S_BACKEND_IMAGE
postgres K8S_POSTGRES_IMAGE
redis K8S_REDIS_IMAGE
END
  namespace=baliblissed-test-images-$$
  ask create namespace "$namespace" >/dev/null || {
    lacks "no namespace can be made in the cluster" "the tests work in one of their own" \
      "export KUBECONFIG=... of a user who may create namespaces"
    return
  }
  trap 'ask delete namespace "$namespace" --wait=false >/dev/null' EXIT
  # The default service account is created shortly after the namespace.
  until ask --namespace "$namespace" get serviceaccount default >/dev/null 2>&1 || [ $SECONDS -ge $deadline ]; do sleep 0.5; done
  for variable in "${!wanted[@]}"; do
    name=${variable//_/-}
    pod "${name,,}" "${wanted[$variable]}" | ask --namespace "$namespace" apply --filename=- >/dev/null
  done
  for variable in "${!wanted[@]}"; do
    image=${wanted[$variable]}
    name=${variable//_/-}
    while said=$(state "${name,,}") && [[ -z $said || $said == ContainerCreating ]] && [ $SECONDS -lt $deadline ]; do
      sleep 0.5
    done
    case $said in
      '' | ContainerCreating | ErrImage* | ImagePull* | ImageInspectError | InvalidImageName | RegistryUnavailable)
        local get="docker pull $image && kind load docker-image $image"
        [ "$variable" != K8S_BACKEND_IMAGE ] || get="docker build -t $image . && kind load docker-image $image"
        lacks "the cluster has no image $image and cannot pull it: ${said:-no pod came up}" \
          "the overlay runs it" "$get, or name another: export $variable=NAME:TAG" ;;
    esac
  done
}

have=1
command -v kubectl >/dev/null || {
  have=0
  lacks "kubectl is not on PATH" "it applies the overlay and queries the cluster" \
    "snap install kubectl --classic, or https://kubernetes.io/docs/tasks/tools/"
}
if [ -z "${KUBECONFIG:-}" ]; then
  have=0
  lacks "KUBECONFIG is not set" "it names the cluster to test on, so that no other one is touched" "$CLUSTER"
else
  found=0
  IFS=: read -r -a files <<<"$KUBECONFIG"
  for file in "${files[@]}"; do [ ! -r "$file" ] || found=1; done
  [ $found = 1 ] || {
    have=0
    lacks "KUBECONFIG=$KUBECONFIG: no such file" "it names the cluster to test on" "$CLUSTER"
  }
fi
if [ $have = 1 ]; then
  if said=$(ask get --raw /readyz 2>&1); then
    images
  else
    lacks "the cluster that KUBECONFIG=$KUBECONFIG names does not answer within $ANSWER_SECONDS s: ${said##*$'\n'}" \
      "the overlay is applied to it" "start it, or make one: $CLUSTER"
  fi
fi
exit $missing
