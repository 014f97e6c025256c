"""A CrateDB cluster on loopback that behaves as a real 6.4.3 was recorded to."""

from lab.cratedb.laboratory import LabCrateDB

__all__ = ["LabCrateDB"]
