"""Free huge uncommitted translogs of CrateDB replicas without leaving a table unprotected."""
