"""The kustomization that puts each dashboard into a ConfigMap, for the sidecar of Grafana's Helm chart.

It lies beside the dashboards: kustomize reads no file above or beside the directory of a kustomization.
"""

import json

FILE = "kustomization.yaml"
HEAD = """\
# Generated with the dashboards: one ConfigMap for each, since all together do not fit into one. Grafana's sidecar finds
# them by their label. Without a hash in their names: an apply does not delete the ConfigMap of the former content, and
# two files with one uid are an error to Grafana.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization

generatorOptions:
  disableNameSuffixHash: true
  labels:
    app.kubernetes.io/name: grafana-dashboards
    app.kubernetes.io/part-of: {service}
    grafana_dashboard: "1"
  annotations:
    grafana_folder: {folder}

configMapGenerator:
"""


def kustomization(files: dict[str, str], namespace: str, folder: str) -> str:
    """Return the text for the dashboards `files` (name of the file to JSON); a ConfigMap is named after the uid."""
    # Names of objects have no underscores and no capital letters.
    service = _object_name(namespace)
    uids = {name: json.loads(text)["uid"] for name, text in files.items()}
    entries = [f"  - name: {_object_name(uid)}\n    files: [{name}]\n" for name, uid in sorted(uids.items())]
    return HEAD.format(service=service, folder=json.dumps(folder)) + "".join(entries)


def _object_name(text: str) -> str:
    return text.replace("_", "-").lower()
