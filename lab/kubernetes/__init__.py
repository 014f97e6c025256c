"""A Kubernetes of pure Python: an API server with what a StatefulSet's life needs.

Its kubelet (`kubelet`) runs processes and works against a real API server just as well; its front
(`front`) can stand before a real one, too, to make that one misbehave.
"""
