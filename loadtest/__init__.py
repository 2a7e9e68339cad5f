"""Load tests: Locust users, and the campaign that drives the real service and proves its alerts (`make loadtest`)."""
