"""Row changes of MySQL and MariaDB as an audit trail: bytes of the binlog in, batches out."""
