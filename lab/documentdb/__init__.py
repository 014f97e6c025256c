"""MongoDB's wire protocol in front of PostgreSQL with the DocumentDB extension.

Every command goes to a function of the extension; a transaction is a transaction of PostgreSQL, so
atomicity, isolation, conflicts, unique and TTL indexes are those of a real engine. This front adds
what MongoDB puts around them: the greeting of a replica set, error codes and labels, the abort of a
transaction at its first error and at the end of its time, and that what is sent again is done once.
Codes and labels are ours: they show how a client takes them, not that MongoDB sends them.
"""
