"""Metrics of several processes: shared files, folding of dead processes, and the aggregate."""
