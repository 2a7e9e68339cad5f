"""The AI concierge: an upstream model if one is configured, else an offline planner."""
