"""What prometheus-client lacks for several processes: an exporter, its keeper, and the account of the workers."""
