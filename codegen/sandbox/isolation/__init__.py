"""Job isolation: the zygote that forks jobs, namespaces, system-call filter, limits."""
