"""Benchmarks beside prometheus-client's own code, in the same run. docs/benchmarks.md says what each figure means."""
