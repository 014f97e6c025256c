"""Real servers for tests, benchmarks and the demo, without Docker and without installing anything.

Their packages come from the Debian mirror that this machine is configured for, and are unpacked
into a folder of the user's (`lab.servers.cache`). A server's data is a copy of a template that was
made once, in a folder that goes with it. No server outlives the process that started it, however
that one ends (`lab.servers.keeper`).
"""
