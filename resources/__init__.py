"""Clients of the systems looked after, every SQL statement, and the state store."""
