"""Take CrateDB nodes out of clusters on Kubernetes, and restart clusters, without losing a copy."""
