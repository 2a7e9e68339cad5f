"""Tests of app/monitoring/server."""
