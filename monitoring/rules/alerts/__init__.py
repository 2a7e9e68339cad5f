"""The alerts that are not generated from an objective, one module a subject."""
