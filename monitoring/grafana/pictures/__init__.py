"""Pictures of the dashboards for documents: `python -m monitoring.grafana.pictures` draws what their queries return."""
