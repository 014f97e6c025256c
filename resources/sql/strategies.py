"""Every statement about the three strategy tables, in words that Materialize and PostgreSQL share.

No unique keys, no ON CONFLICT, no RETURNING, no locks. Values are parameters (`%s`).
"""

from __future__ import annotations

STRATEGIES = "mz_cluster_strategies"
STATE = "mz_cluster_strategy_state"
ACTIONS = "mz_cluster_strategy_actions"

CREATE = {
    STRATEGIES: """
CREATE TABLE IF NOT EXISTS mz_cluster_strategies (
    cluster_id    TEXT        NOT NULL,
    strategy_type TEXT        NOT NULL,
    config        JSONB       NOT NULL,
    updated_at    TIMESTAMPTZ DEFAULT now()
)
""",
    STATE: """
CREATE TABLE IF NOT EXISTS mz_cluster_strategy_state (
    cluster_id    TEXT        NOT NULL,
    strategy_type TEXT        NOT NULL,
    state_version INT         NOT NULL,
    payload       JSONB       NOT NULL,
    updated_at    TIMESTAMPTZ DEFAULT now()
)
""",
    ACTIONS: """
CREATE TABLE IF NOT EXISTS mz_cluster_strategy_actions (
    action_id     TEXT        NOT NULL,
    cluster_id    TEXT,
    action_sql    TEXT,
    decision_ctx  JSONB,
    executed      BOOL,
    error_message TEXT,
    created_at    TIMESTAMPTZ DEFAULT now()
)
""",
}

COLUMNS = {
    STRATEGIES: frozenset({"cluster_id", "strategy_type", "config", "updated_at"}),
    STATE: frozenset({"cluster_id", "strategy_type", "state_version", "payload", "updated_at"}),
    ACTIONS: frozenset(
        {
            "action_id", "cluster_id", "action_sql", "decision_ctx", "executed", "error_message",
            "created_at",
        }
    ),
}  # fmt: skip

#: No row, but the columns of the table that everything else here would use.
SHAPE = {table: f"SELECT * FROM {table} LIMIT 0" for table in COLUMNS}
DROP = {table: f"DROP TABLE {table}" for table in COLUMNS}

#: cluster id, strategy, config as text, since when.
READ_STRATEGIES = (
    "SELECT cluster_id, strategy_type, config::text, updated_at FROM mz_cluster_strategies"
)

#: cluster id, strategy, version, payload as text, since when.
READ_STATE = (
    "SELECT cluster_id, strategy_type, state_version, payload::text, updated_at"
    " FROM mz_cluster_strategy_state"
)

#: cluster id, strategy, when what it remembers was written.
STATE_WRITTEN_AT = (
    "SELECT cluster_id, strategy_type, max(updated_at) FROM mz_cluster_strategy_state"
    " GROUP BY cluster_id, strategy_type"
)

#: Actions that were about to be sent, and of whose end nothing is written down: id, cluster id,
#: statement, context as text, when.
OPEN_ACTIONS = (
    "SELECT action_id, cluster_id, action_sql, decision_ctx::text, created_at"
    " FROM mz_cluster_strategy_actions WHERE executed IS NULL"
)

#: The same of one cluster.
OPEN_ACTIONS_OF = f"{OPEN_ACTIONS} AND cluster_id = %s"

#: The newest actions: id, cluster id, statement, context as text, executed, error, when.
RECENT_ACTIONS = (
    "SELECT action_id, cluster_id, action_sql, decision_ctx::text, executed, error_message,"
    " created_at FROM mz_cluster_strategy_actions WHERE created_at >= %s"
    " ORDER BY created_at DESC, action_id LIMIT %s"
)

INSERT_ACTION = (
    "INSERT INTO mz_cluster_strategy_actions (action_id, cluster_id, action_sql, decision_ctx,"
    " executed, error_message, created_at) VALUES "
)
ACTION_ROW = "(%s::text, %s::text, %s::text, %s::jsonb, %s::bool, %s::text, %s::timestamptz)"

#: What became of an action. Parameters: executed, error, id.
END_ACTION = (
    "UPDATE mz_cluster_strategy_actions SET executed = %s::bool, error_message = %s::text"
    " WHERE action_id = %s::text"
)

INSERT_STATE = (
    "INSERT INTO mz_cluster_strategy_state (cluster_id, strategy_type, state_version, payload,"
    " updated_at) VALUES "
)
STATE_ROW = "(%s::text, %s::text, %s::int, %s::jsonb, %s::timestamptz)"

#: What a newer row has replaced; that one is written first, or a kill in between would forget.
DELETE_OLDER_STATE = (
    "DELETE FROM mz_cluster_strategy_state WHERE (updated_at IS NULL OR updated_at < %s)"
    " AND ({pairs})"
)
STATE_PAIR = "(cluster_id = %s::text AND strategy_type = %s::text)"

WIPE_STATE = "DELETE FROM mz_cluster_strategy_state"
WIPE_STATE_OF = "DELETE FROM mz_cluster_strategy_state WHERE cluster_id IN ({ids})"

#: What was about to be remembered goes, too, or the next cycle would bring it back.
FORGET_OPEN = (
    "UPDATE mz_cluster_strategy_actions SET decision_ctx = decision_ctx - 'state'::text"
    " WHERE executed IS NULL"
)
FORGET_OPEN_OF = f"{FORGET_OPEN} AND cluster_id IN ({{ids}})"
