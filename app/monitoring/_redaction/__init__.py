"""The parts of the redaction engine. Import from `app.monitoring.redaction`, the public face."""
