-- The lab's own schema: its clock, what is due when, and what a replica lives through.

CREATE SCHEMA lab;

-- One row: the lab's time is base + (real time - since) * speed.
CREATE TABLE lab.clock (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  base timestamptz NOT NULL,
  since timestamptz NOT NULL,
  speed float8 NOT NULL
);
CREATE TABLE lab.settings (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE lab.counters (name text PRIMARY KEY, value bigint NOT NULL);

-- What is due: at equal times in the order in which it was written down.
CREATE TABLE lab.schedule (
  id bigserial PRIMARY KEY,
  at timestamptz NOT NULL,
  what text NOT NULL,
  replica_id text,
  object_id text,
  process_id int
);
CREATE INDEX ON lab.schedule (at, id);

-- More of a replica than the catalog shows.
CREATE TABLE lab.replicas (
  id text PRIMARY KEY,
  created_at timestamptz NOT NULL,
  pending boolean NOT NULL DEFAULT false,
  introspection boolean NOT NULL DEFAULT true,
  online_at timestamptz
);
-- What a replica must hold. `single`: only the oldest replica of the cluster runs it.
CREATE TABLE lab.objects (
  id text PRIMARY KEY,
  cluster_id text NOT NULL,
  kind text NOT NULL,
  single boolean NOT NULL DEFAULT false,
  hydrate_s float8
);
-- Who runs out of memory, how long after it came online, and how often.
CREATE TABLE lab.oom_scripts (
  id bigserial PRIMARY KEY,
  cluster text,
  replica text,
  size text,
  after_s float8 NOT NULL,
  times int,
  reason text,
  process_id int NOT NULL DEFAULT 0
);
CREATE TABLE lab.oom_counts (script_id bigint, replica_id text, times int, PRIMARY KEY (script_id, replica_id));
CREATE TABLE lab.loads (cluster text PRIMARY KEY, cpu float8, memory float8, heap float8, disk float8);

CREATE FUNCTION lab.now() RETURNS timestamptz LANGUAGE sql VOLATILE SET search_path = pg_catalog, mz_catalog AS
$$ SELECT base + (clock_timestamp() - since) * speed FROM lab.clock $$;

CREATE FUNCTION lab.setting(text) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT value FROM lab.settings WHERE name = $1 $$;

CREATE FUNCTION lab.seconds(float8) RETURNS interval LANGUAGE sql IMMUTABLE AS
$$ SELECT make_interval(secs => $1) $$;

CREATE FUNCTION lab.next_id(counter text) RETURNS bigint LANGUAGE sql VOLATILE AS
$$ INSERT INTO lab.counters VALUES (counter, 1)
   ON CONFLICT (name) DO UPDATE SET value = lab.counters.value + 1 RETURNING value $$;

CREATE FUNCTION lab.refuse(code text, message text, hint text DEFAULT '', detail text DEFAULT '')
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint, DETAIL = detail;
END $$;

CREATE FUNCTION lab.audit(event text, kind text, details jsonb, who text, t timestamptz)
RETURNS void LANGUAGE sql AS $$
  INSERT INTO mz_catalog.mz_audit_events
  VALUES (lab.next_id('audit')::mz_catalog.uint8, event, kind, details, who, t)
$$;

-- --- a replica's life ---------------------------------------------------------------------------

CREATE FUNCTION lab.processes(replica text) RETURNS int LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT s.processes::int FROM mz_catalog.mz_cluster_replicas r
    JOIN mz_catalog.mz_cluster_replica_sizes s ON s.size = r.size WHERE r.id = replica), 1)
$$;

CREATE FUNCTION lab.status(replica text, process int, is_now text, why text, t timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM mz_internal.mz_cluster_replica_statuses s
   WHERE s.replica_id = replica AND s.process_id = process::mz_catalog.uint8;
  INSERT INTO mz_internal.mz_cluster_replica_statuses
  VALUES (replica, process::mz_catalog.uint8, is_now, why, t);
  INSERT INTO mz_internal.mz_cluster_replica_status_history
  VALUES (replica, process::mz_catalog.uint8, is_now, why, t);
END $$;

-- The replica that runs a cluster's single-replica objects: the oldest.
CREATE FUNCTION lab.oldest(cluster text) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT r.id FROM mz_catalog.mz_cluster_replicas r JOIN lab.replicas l USING (id)
   WHERE r.cluster_id = cluster ORDER BY l.created_at, length(r.id), r.id LIMIT 1
$$;

CREATE FUNCTION lab.holds(object text, replica text) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM lab.objects o JOIN mz_catalog.mz_cluster_replicas r USING (cluster_id)
    WHERE o.id = object AND r.id = replica AND (NOT o.single OR lab.oldest(o.cluster_id) = r.id))
$$;

-- Note that `object` is not hydrated on `replica`, and when it will be, if the replica is online.
CREATE FUNCTION lab.begin_hydration(object text, replica text, t timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  o lab.objects;
  k float8;
  w int;
BEGIN
  IF NOT lab.holds(object, replica) THEN RETURN; END IF;
  SELECT * INTO o FROM lab.objects WHERE id = object;
  DELETE FROM lab.schedule s WHERE s.what = 'hydrated' AND s.replica_id = replica AND s.object_id = object;
  DELETE FROM mz_internal.mz_hydration_statuses h
   WHERE h.object_id = object AND (h.replica_id = replica OR h.replica_id IS NULL);
  INSERT INTO mz_internal.mz_hydration_statuses VALUES (object, replica, false);
  IF o.kind IN ('index', 'materialized-view') THEN
    DELETE FROM mz_internal.mz_compute_hydration_statuses h WHERE h.object_id = object AND h.replica_id = replica;
    INSERT INTO mz_internal.mz_compute_hydration_statuses VALUES (object, replica, false, NULL);
  END IF;
  IF (SELECT online_at FROM lab.replicas WHERE id = replica) IS NULL THEN RETURN; END IF;
  SELECT s.workers::int INTO w FROM mz_catalog.mz_cluster_replicas r
    JOIN mz_catalog.mz_cluster_replica_sizes s ON s.size = r.size WHERE r.id = replica;
  k := coalesce(o.hydrate_s, greatest(lab.setting('hydrate_s')::float8 / greatest(coalesce(w, 1), 1),
                                      lab.setting('hydrate_s')::float8 / 10));
  IF k >= 0 THEN
    INSERT INTO lab.schedule (at, what, replica_id, object_id)
    VALUES (t + lab.seconds(k), 'hydrated', replica, object);
  END IF;
END $$;

-- The introspection indexes every replica has, and which hydrate with it.
CREATE FUNCTION lab.introspect(replica text, is_hydrated boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM mz_internal.mz_hydration_statuses h WHERE h.replica_id = replica AND h.object_id LIKE 'si%';
  DELETE FROM mz_internal.mz_compute_hydration_statuses h WHERE h.replica_id = replica AND h.object_id LIKE 'si%';
  IF NOT (SELECT introspection FROM lab.replicas WHERE id = replica) THEN RETURN; END IF;
  INSERT INTO mz_internal.mz_hydration_statuses
  SELECT 'si' || n, replica, is_hydrated FROM generate_series(1, 32) n;
  INSERT INTO mz_internal.mz_compute_hydration_statuses
  SELECT 'si' || n, replica, is_hydrated, CASE WHEN is_hydrated THEN interval '10 ms' END
    FROM generate_series(1, 32) n;
END $$;

CREATE FUNCTION lab.came_online(replica text, process int, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  script lab.oom_scripts;
  so_far int;
BEGIN
  PERFORM lab.status(replica, process, 'online', NULL, t);
  IF (SELECT count(*) FROM mz_internal.mz_cluster_replica_statuses s
       WHERE s.replica_id = replica AND s.status = 'online') < lab.processes(replica) THEN
    RETURN;
  END IF;
  UPDATE lab.replicas SET online_at = t WHERE id = replica;
  PERFORM lab.introspect(replica, true);
  PERFORM lab.begin_hydration(o.id, replica, t) FROM lab.objects o
    JOIN mz_catalog.mz_cluster_replicas r USING (cluster_id) WHERE r.id = replica;
  PERFORM lab.measure(replica, t);
  SELECT s.* INTO script FROM lab.oom_scripts s
    JOIN mz_catalog.mz_cluster_replicas r ON coalesce(s.replica, r.name) = r.name
                                         AND coalesce(s.size, r.size) = r.size
    JOIN mz_catalog.mz_clusters c ON c.id = r.cluster_id AND coalesce(s.cluster, c.name) = c.name
   WHERE r.id = came_online.replica
     AND coalesce((SELECT n.times FROM lab.oom_counts n
                    WHERE n.script_id = s.id AND n.replica_id = r.id), 0) < coalesce(s.times, 2147483647)
   ORDER BY s.id LIMIT 1;
  IF FOUND THEN
    INSERT INTO lab.oom_counts VALUES (script.id, replica, 1)
      ON CONFLICT (script_id, replica_id) DO UPDATE SET times = lab.oom_counts.times + 1;
    INSERT INTO lab.schedule (at, what, replica_id, object_id, process_id)
    VALUES (t + lab.seconds(script.after_s), 'crash', replica, script.reason, script.process_id);
  END IF;
END $$;

-- One process is killed, for the reason given; the others of its replica go down with it.
CREATE FUNCTION lab.crashed(replica text, process int, why text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM lab.schedule s WHERE s.replica_id = replica AND s.what IN ('hydrated', 'online', 'crash');
  UPDATE lab.replicas SET online_at = NULL WHERE id = replica;
  PERFORM lab.status(replica, n, 'offline', CASE WHEN n = process THEN why END, t)
     FROM generate_series(0, lab.processes(replica) - 1) n;
  PERFORM lab.introspect(replica, false);
  PERFORM lab.begin_hydration(o.id, replica, t) FROM lab.objects o
    JOIN mz_catalog.mz_cluster_replicas r USING (cluster_id) WHERE r.id = replica;
  INSERT INTO lab.schedule (at, what, replica_id, process_id)
  SELECT t + lab.seconds(lab.setting('restart_s')::float8), 'online', replica, n
    FROM generate_series(0, lab.processes(replica) - 1) n;
END $$;

CREATE FUNCTION lab.hydrated(object text, replica text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE mz_internal.mz_hydration_statuses h SET hydrated = true
   WHERE h.object_id = object AND h.replica_id = replica;
  UPDATE mz_internal.mz_compute_hydration_statuses h
     SET hydrated = true, hydration_time = t - (SELECT online_at FROM lab.replicas WHERE id = replica)
   WHERE h.object_id = object AND h.replica_id = replica;
END $$;

-- Whether a replica can serve: online, and all it must hold is hydrated.
CREATE FUNCTION lab.ready(replica text) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT (SELECT online_at IS NOT NULL FROM lab.replicas WHERE id = replica)
     AND NOT EXISTS (SELECT FROM mz_internal.mz_hydration_statuses h
                      WHERE h.replica_id = replica AND NOT coalesce(h.hydrated, false))
$$;

CREATE FUNCTION lab.measure(replica text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  s mz_catalog.mz_cluster_replica_sizes;
  l lab.loads;
BEGIN
  SELECT z.* INTO s FROM mz_catalog.mz_cluster_replicas r
    JOIN mz_catalog.mz_cluster_replica_sizes z ON z.size = r.size WHERE r.id = replica;
  SELECT d.* INTO l FROM lab.loads d JOIN mz_catalog.mz_clusters c ON c.name = d.cluster
    JOIN mz_catalog.mz_cluster_replicas r ON r.cluster_id = c.id WHERE r.id = replica;
  -- Without a load that somebody set it is as on the emulator: mostly NULL.
  DELETE FROM mz_internal.mz_cluster_replica_metrics m WHERE m.replica_id = replica;
  DELETE FROM mz_internal.mz_cluster_replica_utilization m WHERE m.replica_id = replica;
  INSERT INTO mz_internal.mz_cluster_replica_metrics
  SELECT replica, n::mz_catalog.uint8, (s.cpu_nano_cores::numeric * l.cpu / 100)::mz_catalog.uint8,
         (s.memory_bytes::numeric * l.memory / 100)::mz_catalog.uint8,
         (s.disk_bytes::numeric * l.disk / 100)::mz_catalog.uint8,
         (s.memory_bytes::numeric * l.heap / 100)::mz_catalog.uint8,
         CASE WHEN l.heap IS NOT NULL THEN s.memory_bytes END
    FROM generate_series(0, lab.processes(replica) - 1) n;
  INSERT INTO mz_internal.mz_cluster_replica_utilization
  SELECT replica, n::mz_catalog.uint8, l.cpu, l.memory, l.disk, l.heap
    FROM generate_series(0, lab.processes(replica) - 1) n;
  INSERT INTO mz_internal.mz_cluster_replica_metrics_history
  SELECT m.*, t FROM mz_internal.mz_cluster_replica_metrics m WHERE m.replica_id = replica;
  INSERT INTO mz_internal.mz_cluster_replica_utilization_history
  SELECT m.*, t FROM mz_internal.mz_cluster_replica_utilization m WHERE m.replica_id = replica;
END $$;

CREATE FUNCTION lab.add_replica(cluster text, replica_name text, of_size text, zone text, owner text,
                                t timestamptz, is_pending boolean DEFAULT false, is_internal boolean DEFAULT false,
                                has_introspection boolean DEFAULT true)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  prefix text := left(cluster, 1);
  new_id text := prefix || lab.next_id('replica ' || prefix);
  n int;
BEGIN
  INSERT INTO mz_catalog.mz_cluster_replicas VALUES (new_id, replica_name, cluster, of_size, zone, owner, true);
  INSERT INTO lab.replicas VALUES (new_id, t, is_pending, has_introspection, NULL);
  IF is_pending THEN INSERT INTO mz_internal.mz_pending_cluster_replicas VALUES (new_id); END IF;
  IF is_internal THEN INSERT INTO mz_internal.mz_internal_cluster_replicas VALUES (new_id); END IF;
  INSERT INTO mz_internal.mz_cluster_replica_history
  SELECT new_id, of_size, cluster, c.name, replica_name, t, NULL, s.credits_per_hour
    FROM mz_catalog.mz_clusters c LEFT JOIN mz_catalog.mz_cluster_replica_sizes s ON s.size = of_size
   WHERE c.id = cluster;
  FOR n IN 0 .. lab.processes(new_id) - 1 LOOP
    PERFORM lab.status(new_id, n, 'offline', NULL, t);
    INSERT INTO lab.schedule (at, what, replica_id, process_id)
    VALUES (t + lab.seconds(lab.setting('boot_s')::float8), 'online', new_id, n);
  END LOOP;
  PERFORM lab.introspect(new_id, false);
  PERFORM lab.begin_hydration(o.id, new_id, t) FROM lab.objects o WHERE o.cluster_id = cluster;
  RETURN new_id;
END $$;

-- The rows of mz_hydration_statuses stay: a query that does not join the replicas is led astray.
CREATE FUNCTION lab.remove_replica(replica text, t timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  cluster text := (SELECT cluster_id FROM mz_catalog.mz_cluster_replicas WHERE id = replica);
  was_oldest boolean := lab.oldest(cluster) = replica;
BEGIN
  DELETE FROM lab.schedule s WHERE s.replica_id = replica;
  DELETE FROM mz_internal.mz_cluster_replica_statuses s WHERE s.replica_id = replica;
  DELETE FROM mz_internal.mz_cluster_replica_metrics s WHERE s.replica_id = replica;
  DELETE FROM mz_internal.mz_cluster_replica_utilization s WHERE s.replica_id = replica;
  DELETE FROM mz_internal.mz_pending_cluster_replicas s WHERE s.id = replica;
  DELETE FROM mz_internal.mz_internal_cluster_replicas s WHERE s.id = replica;
  UPDATE mz_internal.mz_cluster_replica_history h SET dropped_at = t WHERE h.replica_id = replica;
  DELETE FROM lab.replicas WHERE id = replica;
  DELETE FROM mz_catalog.mz_cluster_replicas WHERE id = replica;
  IF was_oldest THEN
    PERFORM lab.begin_hydration(o.id, lab.oldest(cluster), t) FROM lab.objects o
     WHERE o.cluster_id = cluster AND o.single AND lab.oldest(cluster) IS NOT NULL;
    IF lab.oldest(cluster) IS NULL THEN
      INSERT INTO mz_internal.mz_hydration_statuses
      SELECT o.id, NULL, NULL FROM lab.objects o WHERE o.cluster_id = cluster AND o.kind IN ('source', 'sink');
    END IF;
  END IF;
END $$;

-- Live through all that is due; return in how many real seconds the next thing is, NULL for never.
CREATE FUNCTION lab.live() RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
  due lab.schedule;
  until timestamptz;
BEGIN
  PERFORM pg_advisory_xact_lock(20260115);
  until := lab.now();
  LOOP
    DELETE FROM lab.schedule WHERE id = (SELECT id FROM lab.schedule WHERE at <= until ORDER BY at, id LIMIT 1)
    RETURNING * INTO due;
    EXIT WHEN NOT FOUND;
    CASE due.what
      WHEN 'online' THEN PERFORM lab.came_online(due.replica_id, due.process_id, due.at);
      WHEN 'crash' THEN PERFORM lab.crashed(due.replica_id, due.process_id, due.object_id, due.at);
      WHEN 'hydrated' THEN PERFORM lab.hydrated(due.object_id, due.replica_id, due.at);
      WHEN 'measure' THEN
        -- As it was at the last change: a day is 1,440 minutes, and may be lived through at once.
        INSERT INTO mz_internal.mz_cluster_replica_metrics_history
        SELECT m.*, due.at FROM mz_internal.mz_cluster_replica_metrics m JOIN lab.replicas r ON r.id = m.replica_id
         WHERE r.online_at IS NOT NULL;
        INSERT INTO mz_internal.mz_cluster_replica_utilization_history
        SELECT m.*, due.at FROM mz_internal.mz_cluster_replica_utilization m JOIN lab.replicas r ON r.id = m.replica_id
         WHERE r.online_at IS NOT NULL;
        INSERT INTO lab.schedule (at, what) VALUES (due.at + interval '1 minute', 'measure');
    END CASE;
  END LOOP;
  RETURN (SELECT CASE WHEN c.speed > 0
                      THEN greatest(extract(epoch FROM (SELECT min(at) FROM lab.schedule) - until) / c.speed, 0) END
            FROM lab.clock c);
END $$;
