"""The lab's own MongoDB, of pure Python: wire protocol, store, transactions, users, faults.

`server.LabMongoDB` is a replica set of one member in this process; `wire`, `listener` and `replies`
also serve `lab.documentdb`, which puts them before a real engine.
"""
