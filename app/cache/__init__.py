"""Redis, and what the service does while Redis is away."""
