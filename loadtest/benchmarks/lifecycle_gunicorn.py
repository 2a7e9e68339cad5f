"""gunicorn's configuration for the kind `ours`; addresses, workers and limits come from the environment."""

from app.monitoring import Observability
from loadtest.benchmarks.lifecycle_app import APPLICATION

globals().update(Observability("lifecycle", namespace="benchmark", version="1").gunicorn(APPLICATION))
