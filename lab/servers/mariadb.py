"""MariaDB 10.11, which is Debian 12's."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab.servers.debian import Root, unpacked
from lab.servers.mysqld import USERS, Mysqld, Option

_TABLES = (
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
    "fill_help_tables.sql",
    "maria_add_gis_sp_bootstrap.sql",
)


class MariaDB(Mysqld):
    """Row format, everything about a row in the binary log; GTIDs are always on."""

    name = "MariaDB"
    template = "mariadb-10.11-data"
    program = "usr/sbin/mariadbd"
    defaults: ClassVar[dict[str, Option]] = {
        "server_id": 2,
        "log_bin": "binlog",
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "gtid_strict_mode": True,
        "max_allowed_packet": "256M",
        "innodb_buffer_pool_size": "128M",
        "innodb_log_file_size": "32M",
        "innodb_flush_log_at_trx_commit": 2,
        "sync_binlog": 0,
        "name_resolve": None,
    }

    @classmethod
    def unpack(cls) -> Root:
        """Return its packages' tree."""
        return unpacked("mariadb-10.11", ["mariadb-server-core"], ["bookworm"])

    def fill(self, data: Path) -> None:
        """Make the template's data directory."""
        data.mkdir()
        share = self.root.path / "usr/share/mysql"
        tables = "".join((share / name).read_text(encoding="utf-8") for name in _TABLES)
        users = ";\n".join(USERS)
        self.run_once(
            [
                *self.command(data, bootstrap=True),
                "--bootstrap",
                "--log-warnings=0",
                "--enforce-storage-engine=",
                "--max-allowed-packet=8M",
                "--innodb-log-file-size=32M",
            ],
            "create database if not exists mysql;\nuse mysql;\n"
            f"{tables}\nFLUSH PRIVILEGES;\n{users};\n",
        )
