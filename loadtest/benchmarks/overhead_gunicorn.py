"""gunicorn's configuration of the assembly `full`, as docs/adopting.md has it: master, hooks, worker and exporter."""

import os

from loadtest.benchmarks.overhead_apps import ENDPOINT, RATIO, observability

globals().update(
    observability(float(os.environ[RATIO]), os.environ[ENDPOINT]).gunicorn("loadtest.benchmarks.overhead_apps:served()")
)
