"""Isolates jobs: the zygote that forks them, namespaces, system-call filter, limits."""
