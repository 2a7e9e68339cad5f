"""Recording rules, alerts and their tests, made from slo.yaml.

`python -m monitoring.rules` writes the committed files; `--namespace shop --output DIR` makes those of another service.
"""
