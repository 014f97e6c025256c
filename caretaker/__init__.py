"""The core: what to do and why, with no framework, driver, clock, log or I/O.

Every function here is given what is (an observation), what was promised (a ticket) and what is
allowed (a policy), and returns what to do. `resources` talks to the systems, `ops` carries out.
"""
