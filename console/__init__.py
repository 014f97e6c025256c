"""The command line: the same jobs in the same Dagster instance, run in this process."""
