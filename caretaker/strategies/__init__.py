"""Keep the replicas of Materialize clusters as the clusters' strategies want them."""
