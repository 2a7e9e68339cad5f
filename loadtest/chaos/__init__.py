"""Chaos: the real service under steady traffic while its processes, servers and resources are taken away."""
