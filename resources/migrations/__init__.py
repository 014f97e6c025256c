"""Alembic scripts of the state store; `resources.state_store.schema` runs them."""
