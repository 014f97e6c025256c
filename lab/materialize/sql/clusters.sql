-- The cluster DDL: one call each, with Materialize's own refusals, in the order in which it looks.

-- What was said in a transaction block waits for its COMMIT.
CREATE TABLE lab.deferred (id bigserial PRIMARY KEY, call jsonb NOT NULL, who text NOT NULL);

CREATE FUNCTION lab.unknown_cluster(cluster text) RETURNS void LANGUAGE sql AS
$$ SELECT lab.refuse('XX000', format('unknown cluster ''%s''', cluster)) $$;

-- Return the cluster of this name, or refuse. Names of systems' clusters are known, and not ours.
CREATE FUNCTION lab.cluster(wanted text, who text) RETURNS mz_catalog.mz_clusters LANGUAGE plpgsql AS $$
DECLARE
  found_one mz_catalog.mz_clusters;
BEGIN
  SELECT * INTO found_one FROM mz_catalog.mz_clusters c WHERE c.name = wanted;
  IF NOT FOUND THEN PERFORM lab.unknown_cluster(wanted); END IF;
  PERFORM lab.owns('CLUSTER', wanted, found_one.owner_id, found_one.id, who);
  RETURN found_one;
END $$;

CREATE FUNCTION lab.owns(kind text, object text, owner text, id text, who text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  role_id text := (SELECT r.id FROM mz_catalog.mz_roles r WHERE r.name = who);
BEGIN
  IF who = 'mz_system' THEN RETURN; END IF;
  IF id LIKE 's%' OR (lab.setting('rbac') = 'on' AND owner IS DISTINCT FROM role_id
                      AND NOT coalesce((SELECT rolsuper FROM mz_catalog.mz_roles WHERE name = who), false)) THEN
    PERFORM lab.refuse('42501', format('must be owner of %s %s', kind, object));
  END IF;
END $$;

CREATE FUNCTION lab.check_name(kind text, object text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF object LIKE 'mz\_%' OR object LIKE 'pg\_%' THEN
    PERFORM lab.refuse('XX000', format('%s name "%s" is reserved', kind, object), '',
                       format('The prefixes "mz_" and "pg_" are reserved for system %ss.', kind));
  END IF;
END $$;

CREATE FUNCTION lab.check_size(wanted text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  allowed text := lab.setting('allowed_sizes');
  valid text[] := CASE WHEN allowed = '' THEN
      (SELECT array_agg(s.size ORDER BY s.credits_per_hour, s.size) FROM mz_catalog.mz_cluster_replica_sizes s)
    ELSE string_to_array(allowed, ',') END;
BEGIN
  IF wanted = ANY (valid) AND EXISTS (SELECT FROM mz_catalog.mz_cluster_replica_sizes s WHERE s.size = wanted) THEN
    RETURN;
  END IF;
  PERFORM lab.refuse('XX000', 'unknown cluster replica size ' || wanted,
                     'Valid cluster replica sizes are: ' || array_to_string(valid, ', '));
END $$;

CREATE FUNCTION lab.check_disk(options jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF options ? 'DISK' AND options ->> 'SIZE' ~ '(cc|C)$' THEN
    PERFORM lab.refuse('XX000', 'DISK option not supported for cluster sizes ending in cc or C because disk is always enabled');
  END IF;
END $$;

CREATE FUNCTION lab.check_zone(zone text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  known text := lab.setting('availability_zones');
BEGIN
  IF zone IS NULL OR zone = ANY (string_to_array(known, ',')) THEN RETURN; END IF;
  PERFORM lab.refuse('0A000', 'unknown cluster replica availability zone ' || zone,
    CASE WHEN known = '' THEN 'No availability zones configured; do not specify AVAILABILITY ZONE'
         ELSE 'Valid availability zones are: ' || replace(known, ',', ', ') END);
END $$;

CREATE FUNCTION lab.exhausted(what text, limit_name text, desired numeric, max numeric, is_now numeric)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF desired > max THEN
    PERFORM lab.refuse('53000',
      format('creating %s would violate %s limit (desired: %s, limit: %s, current: %s)',
             what, limit_name, desired, max, is_now),
      format('Drop an existing %s or contact support to request a limit increase.', what));
  END IF;
END $$;

-- Refuse what would be too many replicas of a cluster, or too many credits an hour.
CREATE FUNCTION lab.check_quota(cluster text, sizes text[], leaving text[] DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  have bigint := (SELECT count(*) FROM mz_catalog.mz_cluster_replicas r
                   WHERE r.cluster_id = cluster AND r.id <> ALL (leaving)
                     AND r.id NOT IN (SELECT id FROM mz_internal.mz_internal_cluster_replicas));
  burns numeric := (SELECT coalesce(sum(s.credits_per_hour), 0) FROM mz_catalog.mz_cluster_replicas r
                      JOIN mz_catalog.mz_cluster_replica_sizes s ON s.size = r.size
                     WHERE r.id LIKE 'u%' AND r.id <> ALL (leaving));
  more numeric := (SELECT coalesce(sum(s.credits_per_hour), 0) FROM unnest(sizes) w
                     JOIN mz_catalog.mz_cluster_replica_sizes s ON s.size = w);
BEGIN
  IF cardinality(sizes) = 0 THEN RETURN; END IF;
  PERFORM lab.exhausted('cluster replica', 'max_replicas_per_cluster', have + cardinality(sizes),
                        lab.setting('max_replicas_per_cluster')::numeric, have);
  PERFORM lab.exhausted('cluster replica', 'max_credit_consumption_rate', burns + more,
                        lab.setting('max_credit_consumption_rate')::numeric, burns);
END $$;

CREATE FUNCTION lab.note_replica(event text, replica text, who text, t timestamptz) RETURNS void LANGUAGE sql AS $$
  SELECT lab.audit(event, 'cluster-replica', jsonb_build_object(
    'cluster_id', c.id, 'cluster_name', c.name, 'replica_id', r.id, 'replica_name', r.name,
    'logical_size', r.size, 'disk', true, 'internal', false, 'billed_as', NULL, 'reason', 'manual'), who, t)
  FROM mz_catalog.mz_cluster_replicas r JOIN mz_catalog.mz_clusters c ON c.id = r.cluster_id WHERE r.id = replica
$$;

CREATE FUNCTION lab.put_replica(cluster text, replica_name text, options jsonb, who text, t timestamptz,
                                is_pending boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  owner text := (SELECT owner_id FROM mz_catalog.mz_clusters WHERE id = cluster);
  new_id text;
BEGIN
  new_id := lab.add_replica(cluster, replica_name, options ->> 'SIZE', options ->> 'AVAILABILITY ZONE', owner, t, is_pending,
                            coalesce((options ->> 'INTERNAL')::boolean, false),
                            coalesce(options ->> 'INTROSPECTION INTERVAL', '1s') NOT IN ('0', '0s'));
  PERFORM lab.note_replica('create', new_id, who, t);
  RETURN new_id;
END $$;

CREATE FUNCTION lab.take_replica(replica text, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM lab.note_replica('drop', replica, who, t);
  PERFORM lab.remove_replica(replica, t);
END $$;

-- The options of a replica that somebody gave by name.
CREATE FUNCTION lab.check_replica(options jsonb, who text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF (options ? 'INTERNAL' OR options ? 'BILLED AS') AND who <> 'mz_system' THEN
    PERFORM lab.refuse('XX000', 'cannot specify INTERNAL or BILLED AS as non-internal user');
  END IF;
  IF options ? 'BILLED AS' AND NOT options ? 'INTERNAL' THEN
    PERFORM lab.refuse('XX000', 'must specify INTERNAL when specifying BILLED AS');
  END IF;
  IF NOT options ? 'SIZE' THEN PERFORM lab.refuse('XX000', 'SIZE option must be specified'); END IF;
  PERFORM lab.check_disk(options);
END $$;

CREATE FUNCTION lab.check_storage(cluster text, will_have bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  have bigint := (SELECT count(*) FROM mz_catalog.mz_cluster_replicas r WHERE r.cluster_id = cluster);
BEGIN
  IF will_have > 1 AND lab.setting('multi_replica_sources') = 'off'
     AND EXISTS (SELECT FROM lab.objects o WHERE o.cluster_id = cluster AND o.kind IN ('source', 'sink')) THEN
    PERFORM lab.refuse('XX000', 'cannot create more than one replica of a cluster containing sources or sinks', '',
      format('Currently have %s replica%s; command would result in %s', have, CASE WHEN have <> 1 THEN 's' ELSE '' END, will_have));
  END IF;
END $$;

CREATE FUNCTION lab.create_replica(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  c mz_catalog.mz_clusters := lab.cluster(call ->> 'cluster', who);
  options jsonb := call -> 'options';
  have bigint := (SELECT count(*) FROM mz_catalog.mz_cluster_replicas r WHERE r.cluster_id = c.id);
BEGIN
  IF have > 0 THEN PERFORM lab.check_storage(c.id, have + 1); END IF;
  PERFORM lab.check_replica(options, who);
  IF coalesce((options ->> 'INTERNAL')::boolean, false) THEN
    IF call ->> 'name' ~ '^r\d+$' THEN
      PERFORM lab.refuse('XX000', format('%s is reserved for replicas of managed clusters', call ->> 'name'));
    END IF;
  ELSIF c.managed THEN
    PERFORM lab.refuse('XX000', 'cannot modify managed cluster ' || c.name);
  END IF;
  PERFORM lab.check_size(options ->> 'SIZE');
  PERFORM lab.check_zone(options ->> 'AVAILABILITY ZONE');
  PERFORM lab.check_quota(c.id, ARRAY[options ->> 'SIZE']);
  PERFORM lab.check_duplicate(c.id, call ->> 'name', c.name);
  PERFORM lab.put_replica(c.id, call ->> 'name', options, who, t);
END $$;

CREATE FUNCTION lab.check_duplicate(cluster text, replica text, cluster_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM lab.check_name('replica', replica);
  IF EXISTS (SELECT FROM mz_catalog.mz_cluster_replicas r WHERE r.cluster_id = cluster AND r.name = replica) THEN
    PERFORM lab.refuse('XX000', format('cannot create multiple replicas named ''%s'' on cluster ''%s''', replica, cluster_name));
  END IF;
END $$;

CREATE FUNCTION lab.create_cluster(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  o jsonb := call -> 'options';
  is_managed boolean := coalesce((o ->> 'MANAGED')::boolean, NOT o ? 'REPLICAS');
  automatic boolean := coalesce(o -> 'SCHEDULE' ->> 'type', 'manual') <> 'manual';
  factor bigint;
  new_id text;
  replica jsonb;
  owner text := (SELECT id FROM mz_catalog.mz_roles WHERE name = who);
  have bigint := (SELECT count(*) FROM mz_catalog.mz_clusters WHERE id LIKE 'u%');
  unmanaged text;
BEGIN
  IF is_managed THEN
    IF o ? 'REPLICAS' THEN PERFORM lab.refuse('XX000', 'REPLICAS not supported for managed clusters'); END IF;
    IF NOT o ? 'SIZE' THEN PERFORM lab.refuse('XX000', 'SIZE must be specified for managed clusters'); END IF;
    IF automatic AND o ? 'REPLICATION FACTOR' THEN
      PERFORM lab.refuse('XX000', 'REPLICATION FACTOR cannot be given together with any SCHEDULE other than MANUAL');
    END IF;
    PERFORM lab.check_disk(o);
    factor := CASE WHEN automatic THEN 0 ELSE coalesce((o ->> 'REPLICATION FACTOR')::bigint, 1) END;
  ELSE
    IF NOT o ? 'REPLICAS' THEN PERFORM lab.refuse('XX000', 'REPLICAS must be specified for unmanaged clusters'); END IF;
    FOREACH unmanaged IN ARRAY ARRAY['AVAILABILITY ZONES', 'REPLICATION FACTOR', 'INTROSPECTION DEBUGGING',
                                     'INTROSPECTION INTERVAL', 'SIZE', 'DISK'] LOOP
      IF o ? unmanaged THEN PERFORM lab.refuse('XX000', unmanaged || ' not supported for unmanaged clusters'); END IF;
    END LOOP;
    IF automatic THEN
      PERFORM lab.refuse('XX000', 'cluster schedules other than MANUAL are not supported for unmanaged clusters');
    END IF;
    FOR replica IN SELECT * FROM jsonb_array_elements(o -> 'REPLICAS') LOOP
      PERFORM lab.check_replica(replica -> 'options', who);
    END LOOP;
  END IF;
  PERFORM lab.check_name('cluster', call ->> 'name');
  IF EXISTS (SELECT FROM mz_catalog.mz_clusters WHERE name = call ->> 'name') THEN
    PERFORM lab.refuse('XX000', format('cluster ''%s'' already exists', call ->> 'name'));
  END IF;
  IF is_managed THEN
    PERFORM lab.check_size(o ->> 'SIZE');
    -- Counted, not built: a factor of ten million is refused at once.
    PERFORM lab.exhausted('cluster replica', 'max_replicas_per_cluster', factor,
                          lab.setting('max_replicas_per_cluster')::numeric, 0);
    PERFORM lab.check_quota('', array_fill(o ->> 'SIZE', ARRAY[factor::int]));
  ELSE
    PERFORM lab.check_size(r -> 'options' ->> 'SIZE'), lab.check_zone(r -> 'options' ->> 'AVAILABILITY ZONE')
       FROM jsonb_array_elements(o -> 'REPLICAS') r;
    PERFORM lab.check_quota('', ARRAY(SELECT r -> 'options' ->> 'SIZE' FROM jsonb_array_elements(o -> 'REPLICAS') r));
  END IF;
  PERFORM lab.exhausted('cluster', 'max_clusters', have + 1, lab.setting('max_clusters')::numeric, have);
  new_id := 'u' || lab.next_id('cluster u');
  INSERT INTO mz_catalog.mz_clusters VALUES (new_id, call ->> 'name', owner, '{}', is_managed,
    CASE WHEN is_managed THEN o ->> 'SIZE' END, CASE WHEN is_managed THEN factor::mz_catalog.uint4 END,
    CASE WHEN is_managed THEN true END,
    CASE WHEN is_managed THEN ARRAY(SELECT jsonb_array_elements_text(coalesce(o -> 'AVAILABILITY ZONES', '[]')))::mz_catalog.list END,
    CASE WHEN is_managed THEN coalesce((o ->> 'INTROSPECTION DEBUGGING')::boolean, false) END,
    CASE WHEN is_managed THEN coalesce(o ->> 'INTROSPECTION INTERVAL', '1s')::interval END);
  INSERT INTO mz_internal.mz_cluster_schedules
  VALUES (new_id, coalesce(o -> 'SCHEDULE' ->> 'type', 'manual'),
          CASE WHEN automatic THEN coalesce(o -> 'SCHEDULE' ->> 'estimate', '0')::interval END);
  PERFORM lab.audit('create', 'cluster', jsonb_build_object('id', new_id, 'name', call ->> 'name'), who, t);
  IF is_managed THEN
    PERFORM lab.put_replica(new_id, 'r' || n, o, who, t) FROM generate_series(1, factor) n;
  ELSE
    FOR replica IN SELECT * FROM jsonb_array_elements(o -> 'REPLICAS') LOOP
      PERFORM lab.check_duplicate(new_id, replica ->> 'name', call ->> 'name');
      PERFORM lab.put_replica(new_id, replica ->> 'name', replica -> 'options', who, t);
    END LOOP;
  END IF;
END $$;

CREATE FUNCTION lab.missing(kind text, object text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE USING MESSAGE = format('%s "%s" does not exist, skipping', kind, object);
END $$;

-- Return the replica's id; NULL where it is not there and need not be.
CREATE FUNCTION lab.replica(cluster text, replica text, if_exists boolean, who text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  c mz_catalog.mz_clusters;
  r mz_catalog.mz_cluster_replicas;
BEGIN
  SELECT * INTO c FROM mz_catalog.mz_clusters WHERE name = cluster;
  IF NOT FOUND THEN
    IF NOT if_exists THEN PERFORM lab.unknown_cluster(cluster); END IF;
    RETURN NULL;
  END IF;
  SELECT * INTO r FROM mz_catalog.mz_cluster_replicas x WHERE x.cluster_id = c.id AND x.name = replica;
  IF NOT FOUND THEN
    IF NOT if_exists THEN
      PERFORM lab.refuse('XX000', format('CLUSTER %s has no CLUSTER REPLICA named "%s"', cluster, replica));
    END IF;
    RETURN NULL;
  END IF;
  PERFORM lab.owns('CLUSTER REPLICA', cluster || '.' || replica, r.owner_id, r.id, who);
  RETURN r.id;
END $$;

CREATE FUNCTION lab.drop_replicas(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  if_exists boolean := (call ->> 'if_exists')::boolean;
  pair jsonb;
  ids text[] := '{}';
  one text;
BEGIN
  FOR pair IN SELECT * FROM jsonb_array_elements(call -> 'names') LOOP
    one := lab.replica(pair ->> 0, pair ->> 1, if_exists, who);
    IF one IS NULL THEN PERFORM lab.missing('cluster replica', (pair ->> 0) || '.' || (pair ->> 1));
    ELSE ids := ids || one; END IF;
  END LOOP;
  FOREACH one IN ARRAY ids LOOP
    IF EXISTS (SELECT FROM mz_catalog.mz_cluster_replicas r JOIN mz_catalog.mz_clusters c ON c.id = r.cluster_id
                WHERE r.id = one AND c.managed AND r.id NOT IN (SELECT id FROM mz_internal.mz_internal_cluster_replicas)) THEN
      PERFORM lab.refuse('XX000', 'cannot drop replica of managed cluster');
    END IF;
  END LOOP;
  FOREACH one IN ARRAY ids LOOP PERFORM lab.take_replica(one, who, t); END LOOP;
END $$;

CREATE FUNCTION lab.drop_clusters(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  wanted text;
  c mz_catalog.mz_clusters;
BEGIN
  FOR wanted IN SELECT jsonb_array_elements_text(call -> 'names') LOOP
    IF (call ->> 'if_exists')::boolean AND NOT EXISTS (SELECT FROM mz_catalog.mz_clusters WHERE name = wanted) THEN
      PERFORM lab.missing('cluster', wanted);
      CONTINUE;
    END IF;
    c := lab.cluster(wanted, who);
    IF NOT (call ->> 'cascade')::boolean AND EXISTS (SELECT FROM lab.objects o WHERE o.cluster_id = c.id) THEN
      PERFORM lab.refuse('XX000', format('cannot drop cluster "%s" because other objects depend on it', wanted),
                         'Use DROP ... CASCADE to drop the dependent objects too.');
    END IF;
    PERFORM lab.drop_object(o.id) FROM lab.objects o WHERE o.cluster_id = c.id;
    PERFORM lab.take_replica(r.id, who, t) FROM mz_catalog.mz_cluster_replicas r WHERE r.cluster_id = c.id;
    PERFORM lab.audit('drop', 'cluster', jsonb_build_object('id', c.id, 'name', c.name), who, t);
    DELETE FROM mz_internal.mz_cluster_schedules s WHERE s.cluster_id = c.id;
    DELETE FROM mz_internal.mz_comments m WHERE m.id = c.id;
    DELETE FROM mz_catalog.mz_clusters x WHERE x.id = c.id;
  END LOOP;
END $$;

CREATE FUNCTION lab.drop_object(object text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM mz_catalog.mz_indexes WHERE id = object;
  DELETE FROM mz_catalog.mz_materialized_views WHERE id = object;
  DELETE FROM mz_catalog.mz_sources WHERE id = object;
  DELETE FROM mz_catalog.mz_sinks WHERE id = object;
  DELETE FROM mz_internal.mz_hydration_statuses WHERE object_id = object;
  DELETE FROM mz_internal.mz_compute_hydration_statuses WHERE object_id = object;
  DELETE FROM lab.schedule WHERE object_id = object AND what = 'hydrated';
  DELETE FROM lab.objects WHERE id = object;
END $$;

CREATE FUNCTION lab.rename_cluster(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  c mz_catalog.mz_clusters;
BEGIN
  IF lab.skips(call) THEN RETURN; END IF;
  c := lab.cluster(call ->> 'cluster', who);
  PERFORM lab.check_name('cluster', call ->> 'to');
  IF EXISTS (SELECT FROM mz_catalog.mz_clusters WHERE name = call ->> 'to') THEN
    PERFORM lab.refuse('XX000', 'uniqueness violation');
  END IF;
  UPDATE mz_catalog.mz_clusters SET name = call ->> 'to' WHERE id = c.id;
  PERFORM lab.audit('alter', 'cluster', jsonb_build_object('id', c.id, 'old_name', c.name, 'new_name', call ->> 'to'), who, t);
END $$;

CREATE FUNCTION lab.swap_clusters(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  a mz_catalog.mz_clusters := lab.cluster(call ->> 'cluster', who);
  b mz_catalog.mz_clusters := lab.cluster(call ->> 'with', who);
BEGIN
  UPDATE mz_catalog.mz_clusters SET name = CASE id WHEN a.id THEN b.name ELSE a.name END WHERE id IN (a.id, b.id);
  PERFORM lab.audit('alter', 'cluster', jsonb_build_object('id', a.id, 'old_name', a.name, 'new_name', b.name), who, t);
  PERFORM lab.audit('alter', 'cluster', jsonb_build_object('id', b.id, 'old_name', b.name, 'new_name', a.name), who, t);
END $$;

CREATE FUNCTION lab.owner_cluster(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  c mz_catalog.mz_clusters := lab.cluster(call ->> 'cluster', who);
  role_id text := (SELECT id FROM mz_catalog.mz_roles WHERE name = call ->> 'to');
BEGIN
  IF role_id IS NULL THEN PERFORM lab.refuse('XX000', format('unknown role ''%s''', call ->> 'to')); END IF;
  UPDATE mz_catalog.mz_clusters SET owner_id = role_id WHERE id = c.id;
  UPDATE mz_catalog.mz_cluster_replicas SET owner_id = role_id WHERE cluster_id = c.id;
END $$;

CREATE FUNCTION lab.rename_replica(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  replica text := lab.replica(call ->> 'cluster', call ->> 'name', (call ->> 'if_exists')::boolean, who);
  c mz_catalog.mz_clusters;
BEGIN
  IF replica IS NULL THEN RETURN; END IF;
  c := lab.cluster(call ->> 'cluster', who);
  IF c.managed THEN PERFORM lab.refuse('XX000', 'cannot modify managed cluster ' || c.name); END IF;
  IF EXISTS (SELECT FROM mz_catalog.mz_cluster_replicas WHERE cluster_id = c.id AND name = call ->> 'to') THEN
    PERFORM lab.refuse('XX000', 'uniqueness violation');
  END IF;
  UPDATE mz_catalog.mz_cluster_replicas SET name = call ->> 'to' WHERE id = replica;
END $$;

CREATE FUNCTION lab.skips(call jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  IF (call ->> 'if_exists')::boolean AND NOT EXISTS (SELECT FROM mz_catalog.mz_clusters WHERE name = call ->> 'cluster') THEN
    PERFORM lab.missing('cluster', call ->> 'cluster');
    RETURN true;
  END IF;
  RETURN false;
END $$;

-- ALTER CLUSTER ... RESET
CREATE FUNCTION lab.alter_reset(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  c mz_catalog.mz_clusters;
  o text;
BEGIN
  IF lab.skips(call) THEN RETURN; END IF;
  c := lab.cluster(call ->> 'cluster', who);
  FOR o IN SELECT jsonb_array_elements_text(call -> 'options') LOOP
    IF o IN ('REPLICAS', 'MANAGED') THEN CONTINUE; END IF;
    IF NOT c.managed AND o <> 'SCHEDULE' THEN
      -- The server's own spelling.
      PERFORM lab.refuse('XX000', format('Cannot change %s of unmanaged clusters',
        CASE o WHEN 'INTROSPECTION DEBUGGING' THEN 'INTROSPECTION DEGUBBING' ELSE o END));
    END IF;
    IF o = 'SIZE' THEN PERFORM lab.refuse('XX000', 'SIZE has no default value'); END IF;
    CASE o
      WHEN 'REPLICATION FACTOR' THEN
        PERFORM lab.set_managed(c.id, c.size, 1, who, t);
      WHEN 'AVAILABILITY ZONES' THEN
        UPDATE mz_catalog.mz_clusters SET availability_zones = '{}' WHERE id = c.id;
      WHEN 'INTROSPECTION INTERVAL' THEN
        UPDATE mz_catalog.mz_clusters SET introspection_interval = '1s' WHERE id = c.id;
      WHEN 'INTROSPECTION DEBUGGING' THEN
        UPDATE mz_catalog.mz_clusters SET introspection_debugging = false WHERE id = c.id;
      WHEN 'SCHEDULE' THEN
        UPDATE mz_internal.mz_cluster_schedules SET type = 'manual', refresh_hydration_time_estimate = NULL WHERE cluster_id = c.id;
      ELSE NULL;
    END CASE;
  END LOOP;
END $$;

-- Give a managed cluster this size and factor, at once: another size means other replicas.
CREATE FUNCTION lab.set_managed(cluster text, new_size text, factor bigint, who text, t timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  c mz_catalog.mz_clusters;
  have int := (SELECT count(*) FROM mz_catalog.mz_cluster_replicas WHERE cluster_id = cluster);
  all_ids text[] := ARRAY(SELECT id FROM mz_catalog.mz_cluster_replicas WHERE cluster_id = cluster);
BEGIN
  SELECT * INTO c FROM mz_catalog.mz_clusters WHERE id = cluster;
  PERFORM lab.check_size(new_size);
  PERFORM lab.check_storage(cluster, factor);
  PERFORM lab.exhausted('cluster replica', 'max_replicas_per_cluster', factor,
                        CASE WHEN factor > have THEN lab.setting('max_replicas_per_cluster')::numeric ELSE factor END, have);
  IF new_size <> c.size THEN
    PERFORM lab.check_quota(cluster, array_fill(new_size, ARRAY[factor::int]), all_ids);
    PERFORM lab.take_replica(id, who, t) FROM unnest(all_ids) id;
    have := 0;
  ELSIF factor > have THEN
    PERFORM lab.check_quota(cluster, array_fill(new_size, ARRAY[(factor - have)::int]));
  END IF;
  UPDATE mz_catalog.mz_clusters SET size = new_size, replication_factor = factor::mz_catalog.uint4 WHERE id = cluster;
  PERFORM lab.put_replica(cluster, 'r' || n, jsonb_build_object('SIZE', new_size), who, t)
     FROM generate_series(1, factor) n
    WHERE NOT EXISTS (SELECT FROM mz_catalog.mz_cluster_replicas r WHERE r.cluster_id = cluster AND r.name = 'r' || n);
  PERFORM lab.take_replica(r.id, who, t) FROM mz_catalog.mz_cluster_replicas r
    WHERE r.cluster_id = cluster AND r.name ~ '^r\d+$' AND substr(r.name, 2)::bigint > factor;
END $$;

CREATE FUNCTION lab.become_managed(c mz_catalog.mz_clusters, o jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  sizes text[] := ARRAY(SELECT DISTINCT size FROM mz_catalog.mz_cluster_replicas WHERE cluster_id = c.id ORDER BY 1);
  have bigint := (SELECT count(*) FROM mz_catalog.mz_cluster_replicas WHERE cluster_id = c.id);
  odd text := (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM mz_catalog.mz_cluster_replicas r
                WHERE r.cluster_id = c.id AND r.name NOT IN (SELECT 'r' || n FROM generate_series(1, have) n));
BEGIN
  IF have = 0 AND NOT o ? 'SIZE' THEN PERFORM lab.refuse('XX000', 'Missing SIZE for empty cluster'); END IF;
  IF cardinality(sizes) > 1 THEN
    PERFORM lab.refuse('XX000', 'Cannot convert unmanaged cluster to managed, non-unique replica sizes: ' || array_to_string(sizes, ', '));
  END IF;
  IF o ? 'SIZE' AND have > 0 AND sizes[1] <> o ->> 'SIZE' THEN
    PERFORM lab.refuse('XX000', format('Cluster replicas of size %s do not match expected SIZE %s', sizes[1], o ->> 'SIZE'));
  END IF;
  IF o ? 'REPLICATION FACTOR' AND (o ->> 'REPLICATION FACTOR')::bigint <> have THEN
    PERFORM lab.refuse('XX000', format('REPLICATION FACTOR %s does not match number of replicas (%s)', o ->> 'REPLICATION FACTOR', have));
  END IF;
  IF odd IS NOT NULL THEN
    PERFORM lab.refuse('XX000', 'Cannot convert unmanaged cluster to managed, invalid replica names: ' || odd);
  END IF;
  PERFORM lab.check_size(coalesce(sizes[1], o ->> 'SIZE'));
  UPDATE mz_catalog.mz_clusters SET managed = true, size = coalesce(sizes[1], o ->> 'SIZE'),
         replication_factor = have::mz_catalog.uint4, disk = true, availability_zones = '{}',
         introspection_debugging = false, introspection_interval = '1s' WHERE id = c.id;
END $$;

-- ALTER CLUSTER ... SET, all that it does at once. Returns the cluster's id where replicas of
-- another size are to be waited for, which lab.alter_waiting then does.
CREATE FUNCTION lab.alter_set(call jsonb, who text, t timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  c mz_catalog.mz_clusters;
  o jsonb := call -> 'options';
  name text;
  new_size text;
  factor bigint;
  automatic boolean;
BEGIN
  IF lab.skips(call) THEN RETURN NULL; END IF;
  c := lab.cluster(call ->> 'cluster', who);
  IF EXISTS (SELECT FROM mz_internal.mz_pending_cluster_replicas JOIN mz_catalog.mz_cluster_replicas r USING (id)
              WHERE r.cluster_id = c.id) THEN
    PERFORM lab.refuse('55006', 'cannot alter clusters with pending updates');
  END IF;
  IF o ? 'MANAGED' AND NOT (o ->> 'MANAGED')::boolean AND c.managed THEN
    FOREACH name IN ARRAY ARRAY['SIZE', 'REPLICATION FACTOR', 'AVAILABILITY ZONES'] LOOP
      IF o ? name THEN PERFORM lab.refuse('XX000', name || ' not supported for unmanaged clusters'); END IF;
    END LOOP;
    UPDATE mz_catalog.mz_clusters SET managed = false, size = NULL, replication_factor = NULL, disk = NULL,
           availability_zones = NULL, introspection_debugging = NULL, introspection_interval = NULL WHERE id = c.id;
    RETURN NULL;
  END IF;
  IF NOT c.managed AND NOT coalesce((o ->> 'MANAGED')::boolean, false) THEN
    FOREACH name IN ARRAY ARRAY['AVAILABILITY ZONES', 'REPLICATION FACTOR', 'INTROSPECTION DEBUGGING',
                                'INTROSPECTION INTERVAL', 'SIZE', 'DISK'] LOOP
      IF o ? name THEN PERFORM lab.refuse('XX000', name || ' not supported for unmanaged clusters'); END IF;
    END LOOP;
    IF coalesce(o -> 'SCHEDULE' ->> 'type', 'manual') <> 'manual' THEN
      PERFORM lab.refuse('XX000', 'cluster schedules other than MANUAL are not supported for unmanaged clusters');
    END IF;
    RETURN NULL;
  END IF;
  IF o ? 'REPLICAS' THEN PERFORM lab.refuse('XX000', 'REPLICAS not supported for managed clusters'); END IF;
  PERFORM lab.check_disk(o || jsonb_build_object('SIZE', coalesce(o ->> 'SIZE', c.size)));
  IF NOT c.managed THEN
    PERFORM lab.become_managed(c, o);
    RETURN NULL;
  END IF;
  automatic := coalesce(o -> 'SCHEDULE' ->> 'type',
    (SELECT s.type FROM mz_internal.mz_cluster_schedules s WHERE s.cluster_id = c.id), 'manual') <> 'manual';
  IF automatic AND o ? 'REPLICATION FACTOR' THEN
    PERFORM lab.refuse('XX000', 'REPLICATION FACTOR cannot be given together with any SCHEDULE other than MANUAL');
  END IF;
  IF o ? 'SCHEDULE' THEN
    UPDATE mz_internal.mz_cluster_schedules s SET type = o -> 'SCHEDULE' ->> 'type',
           refresh_hydration_time_estimate = CASE WHEN automatic THEN coalesce(o -> 'SCHEDULE' ->> 'estimate', '0')::interval END
     WHERE s.cluster_id = c.id;
  END IF;
  new_size := coalesce(o ->> 'SIZE', c.size);
  factor := coalesce((o ->> 'REPLICATION FACTOR')::bigint, c.replication_factor::bigint);
  IF call -> 'wait' <> 'null' AND new_size <> c.size AND factor > 0 THEN
    IF automatic THEN
      PERFORM lab.refuse('0A000', 'cannot use WAIT on a cluster with a SCHEDULE other than MANUAL');
    END IF;
    IF call -> 'wait' ? 'on_timeout' AND call -> 'wait' ->> 'timeout' IS NULL THEN
      PERFORM lab.refuse('XX000', 'TIMEOUT=<duration> option is required for ALTER CLUSTER ... WITH (WAIT UNTIL READY ( ... ) )');
    END IF;
    PERFORM lab.check_size(new_size);
    PERFORM lab.check_quota(c.id, array_fill(new_size, ARRAY[factor::int]));
    PERFORM lab.put_replica(c.id, format('r%s-pending', n), jsonb_build_object('SIZE', new_size), who, t, true)
       FROM generate_series(1, factor) n;
    RETURN c.id;
  END IF;
  PERFORM lab.set_managed(c.id, new_size, factor, who, t);
  PERFORM lab.audit('alter', 'cluster', jsonb_build_object('id', c.id, 'name', c.name), who, t);
  RETURN NULL;
END $$;

-- --- the two ways in ----------------------------------------------------------------------------

CREATE FUNCTION lab.run(call jsonb, who text) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS $$
DECLARE
  t timestamptz;
  waiting text;
BEGIN
  PERFORM lab.live();
  t := lab.now();
  IF call ->> 'op' = 'alter_set' THEN RETURN lab.alter_set(call, who, t); END IF;
  EXECUTE format('SELECT lab.%I($1, $2, $3)', call ->> 'op') USING call, who, t;
  RETURN NULL;
END $$;

CREATE FUNCTION lab.defer(call jsonb, who text) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS
$$ INSERT INTO lab.deferred (call, who) VALUES ($1, $2) $$;

CREATE FUNCTION lab.run_deferred() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS $$
BEGIN
  DELETE FROM lab.deferred WHERE id = NEW.id;
  PERFORM lab.run(NEW.call - 'wait' || '{"wait": null}', NEW.who);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON lab.deferred
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lab.run_deferred();

-- How a graceful change of size stands: `ready`, `late` or nothing yet.
CREATE FUNCTION lab.graceful(cluster text, began timestamptz, wait jsonb) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS $$
DECLARE
  passed interval;
BEGIN
  PERFORM lab.live();
  passed := lab.now() - began;
  IF wait ? 'for' THEN
    RETURN CASE WHEN passed >= (wait ->> 'for')::interval THEN 'ready' END;
  END IF;
  IF NOT EXISTS (SELECT FROM mz_internal.mz_pending_cluster_replicas p JOIN mz_catalog.mz_cluster_replicas r USING (id)
                  WHERE r.cluster_id = cluster AND NOT lab.ready(r.id)) THEN
    RETURN 'ready';
  END IF;
  RETURN CASE WHEN passed >= (wait ->> 'timeout')::interval THEN 'late' END;
END $$;

CREATE FUNCTION lab.settle(cluster text, commits boolean, who text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS $$
DECLARE
  t timestamptz;
  ids text[];
  new_ones text[];
BEGIN
  PERFORM lab.live();
  t := lab.now();
  new_ones := ARRAY(SELECT r.id FROM mz_internal.mz_pending_cluster_replicas JOIN mz_catalog.mz_cluster_replicas r USING (id)
                     WHERE r.cluster_id = cluster);
  IF NOT commits THEN
    PERFORM lab.take_replica(id, who, t) FROM unnest(new_ones) id;
    RETURN;
  END IF;
  PERFORM lab.take_replica(r.id, who, t) FROM mz_catalog.mz_cluster_replicas r
    WHERE r.cluster_id = cluster AND r.id <> ALL (new_ones);
  DELETE FROM mz_internal.mz_pending_cluster_replicas WHERE id = ANY (new_ones);
  UPDATE lab.replicas SET pending = false WHERE id = ANY (new_ones);
  UPDATE mz_catalog.mz_cluster_replicas SET name = replace(name, '-pending', '') WHERE id = ANY (new_ones);
  UPDATE mz_catalog.mz_clusters SET size = (SELECT size FROM mz_catalog.mz_cluster_replicas WHERE id = new_ones[1]),
         replication_factor = cardinality(new_ones)::bigint::mz_catalog.uint4 WHERE id = cluster;
END $$;

-- What every cluster statement becomes. It waits between transactions, so it must not be a definer.
CREATE PROCEDURE lab.perform(call jsonb, who text, in_block text) LANGUAGE plpgsql AS $$
DECLARE
  cluster text;
  began timestamptz;
  stands text;
BEGIN
  IF in_block = 'true' THEN
    PERFORM lab.defer(call, who);
    RETURN;
  END IF;
  cluster := lab.run(call, who);
  IF cluster IS NULL THEN RETURN; END IF;
  began := lab.time();
  COMMIT;
  -- Cancelled in here, the statement leaves its pending replicas; the proxy takes them back.
  LOOP
    stands := lab.graceful(cluster, began, call -> 'wait');
    COMMIT;
    EXIT WHEN stands IS NOT NULL;
    PERFORM pg_sleep(0.05);
  END LOOP;
  PERFORM lab.settle(cluster, stands = 'ready' OR call -> 'wait' ->> 'on_timeout' = 'commit', who);
  COMMIT;
  IF stands = 'late' AND call -> 'wait' ->> 'on_timeout' = 'rollback' THEN
    RAISE EXCEPTION USING ERRCODE = '57014', MESSAGE = 'canceling statement, provided timeout lapsed',
      HINT = 'Consider increasing the timeout duration in the alter cluster statement.';
  END IF;
END $$;

CREATE FUNCTION lab.time() RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, mz_catalog AS
$$ SELECT lab.now() $$;

CREATE FUNCTION lab.comment(call jsonb, who text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  object text;
  kind text := CASE WHEN call ->> 'replica' IS NULL THEN 'cluster' ELSE 'cluster-replica' END;
BEGIN
  object := CASE WHEN call ->> 'replica' IS NULL THEN (lab.cluster(call ->> 'cluster', who)).id
                 ELSE lab.replica(call ->> 'cluster', call ->> 'replica', false, who) END;
  DELETE FROM mz_internal.mz_comments m WHERE m.id = object AND m.object_type = kind;
  IF call ->> 'comment' IS NOT NULL THEN
    INSERT INTO mz_internal.mz_comments VALUES (object, kind, NULL, call ->> 'comment');
  END IF;
END $$;
