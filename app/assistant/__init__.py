"""The AI concierge: an upstream model where one is configured, else a planner that needs nobody."""
