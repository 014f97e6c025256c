-- What a client sees besides the tables: functions, views, the roles and what they may read.

CREATE FUNCTION mz_catalog.now() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS
$$ SELECT base + (pg_catalog.now() - since) * speed FROM lab.clock $$;
CREATE FUNCTION mz_catalog.mz_now() RETURNS mz_catalog.mz_timestamp LANGUAGE sql STABLE AS
$$ SELECT (extract(epoch FROM mz_catalog.now()) * 1000)::bigint::mz_catalog.mz_timestamp $$;
CREATE FUNCTION mz_catalog.mz_version() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS
$$ SELECT lab.setting('version') $$;
CREATE FUNCTION mz_catalog.mz_environment_id() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT 'lab-local-00000000-0000-0000-0000-000000000000-0' $$;
CREATE FUNCTION mz_catalog.mz_is_superuser() RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT coalesce((SELECT rolsuper FROM mz_catalog.mz_roles WHERE name = current_user), false) $$;
CREATE FUNCTION mz_catalog.version() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT 'PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (Materialize ' || split_part(mz_catalog.mz_version(), ' ', 1) || ')' $$;
CREATE FUNCTION mz_catalog.current_database() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'materialize' $$;

CREATE VIEW mz_internal.mz_statement_execution_history_redacted AS
  SELECT * FROM mz_internal.mz_statement_execution_history;

-- Every relation and column, the catalog's and the users', by what is really there.
CREATE VIEW mz_catalog.mz_schemas AS
  SELECT CASE WHEN nspname ~ '^(mz_|pg_|information_schema)' THEN 's' ELSE 'u' END || n.oid AS id, n.oid AS oid,
         CASE WHEN nspname ~ '^(mz_|pg_|information_schema)' THEN NULL ELSE 'u1' END AS database_id,
         nspname::text AS name, 's1'::text AS owner_id, '{}'::mz_catalog.mz_aclitem[] AS privileges
    FROM pg_namespace n WHERE nspname <> 'lab' AND nspname !~ '^pg_(toast|temp)';
CREATE VIEW mz_catalog.mz_databases AS
  SELECT 'u1'::text AS id, 1::oid AS oid, 'materialize'::text AS name, 's1'::text AS owner_id,
         '{}'::mz_catalog.mz_aclitem[] AS privileges;
CREATE VIEW mz_catalog.mz_relations AS
  SELECT s.id, s.oid, s.schema_id, s.name, s.type, s.owner_id, s.cluster_id, s.privileges FROM (
    SELECT left(n.id, 1) || c.oid AS id, c.oid, n.id AS schema_id, c.relname::text AS name,
           CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END AS type, 's1'::text AS owner_id,
           NULL::text AS cluster_id, '{}'::mz_catalog.mz_aclitem[] AS privileges
      FROM pg_class c JOIN mz_catalog.mz_schemas n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v')
  ) s;
CREATE VIEW mz_catalog.mz_tables AS
  SELECT id, oid, schema_id, name, owner_id, privileges FROM mz_catalog.mz_relations WHERE type = 'table' AND id LIKE 'u%';
CREATE VIEW mz_catalog.mz_objects AS SELECT * FROM mz_catalog.mz_relations
  UNION ALL SELECT id, oid, NULL, name, 'index', owner_id, cluster_id, '{}' FROM mz_catalog.mz_indexes
  UNION ALL SELECT id, oid, schema_id, name, 'materialized-view', owner_id, cluster_id, privileges FROM mz_catalog.mz_materialized_views
  UNION ALL SELECT id, oid, schema_id, name, 'source', owner_id, cluster_id, privileges FROM mz_catalog.mz_sources
  UNION ALL SELECT id, oid, schema_id, name, 'sink', owner_id, cluster_id, NULL FROM mz_catalog.mz_sinks;
CREATE VIEW mz_catalog.mz_columns AS
  SELECT r.id, a.attname::text AS name, a.attnum::bigint::mz_catalog.uint8 AS position, NOT a.attnotnull AS nullable,
         CASE WHEN a.atttypid = 16384 THEN 'text list'
              ELSE replace(format_type(a.atttypid, NULL), 'mz_catalog.', '') END AS type, pg_get_expr(d.adbin, d.adrelid) AS "default",
         a.atttypid AS type_oid, a.atttypmod AS type_mod
    FROM mz_catalog.mz_relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum;

CREATE VIEW mz_internal.mz_show_clusters AS
  SELECT c.name, (SELECT string_agg(r.name || coalesce(' (' || r.size || ')', ''), ', ' ORDER BY r.name)
                    FROM mz_catalog.mz_cluster_replicas r WHERE r.cluster_id = c.id) AS replicas,
         coalesce((SELECT comment FROM mz_internal.mz_comments m WHERE m.id = c.id AND m.object_type = 'cluster'), '') AS comment
    FROM mz_catalog.mz_clusters c;
CREATE VIEW mz_internal.mz_show_cluster_replicas AS
  SELECT c.name AS cluster, r.name AS replica, r.size,
         coalesce((SELECT bool_and(s.status = 'online') FROM mz_internal.mz_cluster_replica_statuses s WHERE s.replica_id = r.id), false) AS ready,
         coalesce((SELECT comment FROM mz_internal.mz_comments m WHERE m.id = r.id AND m.object_type = 'cluster-replica'), '') AS comment
    FROM mz_catalog.mz_cluster_replicas r JOIN mz_catalog.mz_clusters c ON c.id = r.cluster_id;

-- Everybody may read the catalog, nobody may write it; nobody's functions are the lab's.
CREATE PROCEDURE lab.admit(who text, superuser boolean) LANGUAGE plpgsql AS $$
DECLARE
  n bigint := lab.next_id('role');
BEGIN
  INSERT INTO mz_catalog.mz_roles
  SELECT CASE WHEN who LIKE 'mz\_%' THEN 's' ELSE 'u' END || n, (20000 + n)::oid, who, true, true, superuser
   WHERE NOT EXISTS (SELECT FROM mz_catalog.mz_roles WHERE name = who);
END $$;
