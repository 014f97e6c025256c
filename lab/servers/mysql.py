"""MySQL 9 from Debian's development suite, the only one that has it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab.servers.debian import Root, unpacked
from lab.servers.mysqld import USERS, Mysqld, Option


class MySQL(Mysqld):
    """GTIDs on, row format, everything about a row in the binary log."""

    name = "MySQL"
    template = "mysql-9-data"
    program = "usr/sbin/mysqld"
    defaults: ClassVar[dict[str, Option]] = {
        "server_id": 1,
        "log_bin": "binlog",
        "gtid_mode": True,
        "enforce_gtid_consistency": True,
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "max_allowed_packet": "256M",
        "innodb_buffer_pool_size": "128M",
        "innodb_flush_log_at_trx_commit": 2,
        "sync_binlog": 0,
        "performance_schema": False,
        "mysqlx": False,
        "name_resolve": None,
        # Its compiled default is a folder of an installed server.
        "secure_file_priv": "",
    }

    @classmethod
    def unpack(cls) -> Root:
        """Return its packages' tree."""
        return unpacked("mysql-9", ["mysql-server-core"], ["sid"])

    def fill(self, data: Path) -> None:
        """Make the template's data directory."""
        users = data.parent / "users.sql"
        users.write_text("".join(f"{statement};\n" for statement in USERS), encoding="utf-8")
        self.run_once(
            [
                *self.command(data, bootstrap=True),
                "--initialize-insecure",
                f"--init-file={users}",
                "--secure-file-priv=",
                "--innodb-redo-log-capacity=8M",
            ]
        )
        users.unlink()
        # The server's uuid: each copy makes its own.
        (data / "auto.cnf").unlink()
