"""The audit trail in MongoDB: documents and the offset that is true with them, in one commit.

A run of the sync does, in this order:

    with mongodb.trail(protocol) as trail:       # resource.MongoDBResource; proves transactions
        held = trail.acquire("orders", owner)    # offsets.Held: fences whoever held it before
        held.server_uuid, held.config_hash = facts.server_uuid, filters.hash
        recovered = trail.recover(held)          # staged batches that a dead run left behind
        with Sink(trail, held, spool, ...) as sink:
            read from sink.resume_from           # None: the trail is empty
            sink.write(batch)                    # for each batch, in order
            sink.flush()                         # returns when all of it is in MongoDB or spooled

Modules: `resource`, `settings` (what is configured), `trail` (the door), `commits` and `idempotent`
(the protocols), `recovery`, `offsets`, `staging`, `layout` (collections and indexes), `proof`
(transactions), `reads` (status, history), `sink`, `breaker` and `spool` (while MongoDB is away),
`failures` and `retries` (whose word is final, and whose is not).
"""
