"""The programs of the lab's image.

Each runs by itself, without site-packages, and imports none of ours: they start by the hundred.
"""
