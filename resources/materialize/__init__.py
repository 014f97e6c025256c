"""Materialize: its catalog read, one statement a reading; its clusters changed, one at a time."""
