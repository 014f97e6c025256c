"""One file a revision, in plain types."""
