"""MySQL and MariaDB, followed as a replica would and asked as a client would; never written to."""
