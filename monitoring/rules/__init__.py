"""Alert rules and their tests; `python -m monitoring.rules --namespace shop --job shop --output DIR` makes yours."""
