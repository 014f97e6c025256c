"""The demo's source: a real MySQL, else a MariaDB, with a shop in it whose rows change."""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, Any

import pymysql

from lab.servers.errors import ServerUnavailableError
from lab.servers.mysqld import PASSWORD, READER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.servers.mysqld import Mysqld

#: Lively while somebody looks, calm when the demo is left alone: its audit trail is in memory.
_LIVELY_FOR_S = 1800.0
_PAUSE_S, _CALM_PAUSE_S = 0.6, 5.0
_SALE_EVERY_S, _CALM_SALE_EVERY_S = 90.0, 900.0
_PRODUCTS = 1500
_ORDERS_KEPT = 500

_TABLES = """\
CREATE DATABASE shop;
CREATE TABLE shop.customers (
    id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, email VARCHAR(80), since DATE);
CREATE TABLE shop.products (
    id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, price DECIMAL(8,2) NOT NULL, stock INT NOT NULL);
CREATE TABLE shop.orders (
    id INT AUTO_INCREMENT PRIMARY KEY, customer INT NOT NULL,
    status ENUM('new','paid','shipped') NOT NULL DEFAULT 'new', placed DATETIME(3) NOT NULL);
CREATE TABLE shop.order_lines (
    order_id INT, line TINYINT, product INT NOT NULL, quantity INT NOT NULL,
    PRIMARY KEY (order_id, line))"""
_NAMES = ("Ada", "Blaise", "Carl", "Dorothy", "Emmy", "Fermat", "Grace", "Hypatia")


def source_url(port: int) -> str:
    """Return `MYSQL_URL` of the shop, for the user who may read, and read the binary log."""
    return f"mysql://{READER}:{PASSWORD}@127.0.0.1:{port}/"


@contextlib.contextmanager
def started(port: int) -> Iterator[Mysqld]:
    """Give a server on that port; the reasons of all of them where this machine has none."""
    # Not all machines that run the demo can even import them.
    from lab.servers.mariadb import MariaDB  # noqa: PLC0415
    from lab.servers.mysql import MySQL  # noqa: PLC0415

    reasons: list[str] = []
    for kind in (MySQL, MariaDB):
        try:
            server = kind()
        except (ServerUnavailableError, OSError) as error:
            if str(error) not in reasons:
                reasons.append(str(error))
            continue
        server.port = port
        with server:
            if server.port != port:
                raise ServerUnavailableError(f"port {port} was taken meanwhile")
            yield server
        return
    raise ServerUnavailableError("; ".join(reasons))


class Shop:
    """Customers who order, staff who ship, and a sale now and then."""

    def __init__(self, server: Mysqld) -> None:
        self._server = server
        self._chance = random.Random()
        self._began = time.monotonic()
        self._sale_at = self._began + 20.0
        self._renamed = False

    def open(self) -> None:
        """Make the tables and fill the shelves."""
        people = ", ".join(
            f"({number}, '{name}', '{name.lower()}@example.com', CURRENT_DATE)"
            for number, name in enumerate(_NAMES, 1)
        )
        goods = ", ".join(
            f"({number}, 'article {number}', {self._chance.randrange(100, 9900) / 100}, 100)"
            for number in range(1, _PRODUCTS + 1)
        )
        self._server.run(
            *_TABLES.split(";"),
            f"INSERT INTO shop.customers VALUES {people}",  # noqa: S608 - made above
            f"INSERT INTO shop.products VALUES {goods}",  # noqa: S608 - made above
        )

    def work(self, between: Callable[[], None]) -> None:
        """Change rows, `between` which that is called; a killed server is started again."""
        while True:
            try:
                with contextlib.closing(self._connect()) as connection:
                    while True:
                        self._one_thing(connection)
                        between()
                        self._rest()
            except pymysql.err.MySQLError as error:
                print(f"{error}; starting {self._server.name} again", flush=True)
                time.sleep(1.0)
                self._server.restart()

    def _connect(self) -> Any:
        return self._server.connect(autocommit=False, database="shop")

    def _rest(self) -> None:
        lively = time.monotonic() - self._began < _LIVELY_FOR_S
        time.sleep(self._chance.uniform(0.2, 1.8) * (_PAUSE_S if lively else _CALM_PAUSE_S))

    def _one_thing(self, connection: Any) -> None:
        now = time.monotonic()
        with connection.cursor() as cursor:
            if now >= self._sale_at:
                lively = now - self._began < _LIVELY_FOR_S
                self._sale_at = now + (_SALE_EVERY_S if lively else _CALM_SALE_EVERY_S)
                self._sale(cursor)
            else:
                self._chance.choice((self._order, self._order, self._pay, self._ship))(cursor)
        connection.commit()

    def _order(self, cursor: Any) -> None:
        customer = self._chance.randrange(len(_NAMES)) + 1
        cursor.execute("INSERT INTO orders (customer, placed) VALUES (%s, NOW(3))", (customer,))
        order = cursor.lastrowid
        for line in range(1, self._chance.randrange(1, 5)):
            product, quantity = self._chance.randrange(_PRODUCTS) + 1, self._chance.randrange(1, 4)
            cursor.execute(
                "INSERT INTO order_lines VALUES (%s, %s, %s, %s)", (order, line, product, quantity)
            )
            cursor.execute(
                "UPDATE products SET stock = stock - %s WHERE id = %s", (quantity, product)
            )
        if order > _ORDERS_KEPT:
            for table, key in (("order_lines", "order_id"), ("orders", "id")):
                cursor.execute(
                    f"DELETE FROM {table} WHERE {key} <= %s LIMIT 20",  # noqa: S608 - ours
                    (order - _ORDERS_KEPT,),
                )

    def _pay(self, cursor: Any) -> None:
        cursor.execute("UPDATE orders SET status = 'paid' WHERE status = 'new' LIMIT 1")

    def _ship(self, cursor: Any) -> None:
        cursor.execute("UPDATE orders SET status = 'shipped' WHERE status = 'paid' LIMIT 2")

    def _sale(self, cursor: Any) -> None:
        """Change every price in one transaction; before the first one, the table, too."""
        if not self._renamed:
            self._renamed = True
            cursor.execute("ALTER TABLE products ADD on_sale BOOL NOT NULL DEFAULT FALSE")
        factor = self._chance.choice(("0.9", "1.1"))
        cursor.execute(
            f"UPDATE products SET price = GREATEST(1, ROUND(price * {factor}, 2)), "  # noqa: S608
            "stock = 100, on_sale = NOT on_sale"
        )
