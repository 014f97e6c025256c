"""Kubernetes, as far as a restart of CrateDB needs it."""
