"""The Grafana dashboards in typed Python: `python -m monitoring.grafana.generator` writes their JSON."""
