"""CrateDB over HTTP: reads through the `crate` package, changes sent once by a path of our own."""
