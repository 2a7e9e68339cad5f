"""The gunicorn worker class and the hooks of the master."""
