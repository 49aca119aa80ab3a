-- The statements that Postgres has in place of the shared ones, and those that only Postgres has.
--
-- At READ COMMITTED a statement sees what was committed when it began. So a row that was found is locked as it is now
-- (FOR NO KEY UPDATE, which follows it to its newest version and looks at the conditions again), rows that others have
-- locked are passed by (SKIP LOCKED), and the UPDATE repeats every condition, since only it decides. `clock` is the one
-- reading of the time; `${instant}` reads it. What must happen once is MATERIALIZED: a planner may run anything else as often as it likes.

-- name: acquire_best_job
-- Differs because several sessions claim at once, and because a claim also takes the job's advisory lock.
-- It answers with the candidate, with what its lock said, and with the row if the candidate was leased; or with `spent`,
-- if the candidate had no execution left and was failed. Joined by `=`, since under `IN` a nested loop may run the
-- LIMIT once for each row, and in FROM a hash join scans the table.
WITH ${clock},
best_queued AS MATERIALIZED (
    SELECT id, priority, created_at, lease_token, FALSE AS expired, FALSE AS exhausted FROM prompt_studio_job_queue
    WHERE status = 'queued' AND available_at <= ${now}
        AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
        AND id <> ALL(CAST(:refused AS BIGINT[])) -- impl: PS-LOCKS-5
    ORDER BY priority DESC, created_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
),
best_expired AS MATERIALIZED (
    SELECT id, priority, created_at, lease_token, TRUE AS expired, executions >= execution_limit AS exhausted
    FROM prompt_studio_job_queue
    WHERE status = 'processing' AND leased_until <= ${now}
        AND (executions < execution_limit OR CAST(:fails_exhausted AS BOOLEAN)) -- impl: PS-CONCURRENCY-8
        AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
        AND id <> ALL(CAST(:refused AS BIGINT[]))
    ORDER BY priority DESC, created_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
),
candidate AS MATERIALIZED (
    SELECT * FROM (SELECT * FROM best_queued UNION ALL SELECT * FROM best_expired) AS best
    ORDER BY priority DESC, created_at, id LIMIT 1 -- impl: PS-CONCURRENCY-7
),
gate AS MATERIALIZED ( -- one row, so one lock is tried
    SELECT id, lease_token, expired, exhausted,
        id || '/' || lease_token = ANY(CAST(:impatient AS TEXT[])) AS impatient, -- impl: PS-LOCKS-6
        CASE WHEN exhausted OR NOT CAST(:advisory_locks AS BOOLEAN) OR id = ANY(CAST(:held AS BIGINT[]))
            OR id || '/' || lease_token = ANY(CAST(:impatient AS TEXT[])) THEN NULL
        ELSE pg_try_advisory_lock(id) END AS locked -- impl: PS-LOCKS-1
    FROM candidate
),
won AS (
    UPDATE prompt_studio_job_queue
    SET revision = revision + 1,
        was_reclaim = (status = 'processing'),
        retry_count = CASE WHEN status = 'processing' THEN retry_count + 1 ELSE retry_count END,
        status = 'processing', lease_owner = :worker_id,
        leased_until = ${now} + CASE job_type
            WHEN :job_type_1 THEN CAST(:lease_milliseconds_1 AS BIGINT)
            WHEN :job_type_2 THEN CAST(:lease_milliseconds_2 AS BIGINT)
            ELSE CAST(:lease_milliseconds_3 AS BIGINT) END ${milliseconds},
        lease_token = lease_token + 1, -- impl: PS-CONCURRENCY-5
        executions = executions + 1, -- impl: PS-CONCURRENCY-16
        started_at = ${now}, late = FALSE,
        error_message = NULL, result = NULL, closed_token = NULL, closed_by = NULL
    WHERE id = (
            SELECT gate.id FROM gate
            WHERE NOT gate.exhausted AND (gate.locked IS NOT FALSE OR gate.expired) -- impl: PS-LOCKS-3
        )
        AND ( -- impl: PS-CONCURRENCY-1, PS-CONCURRENCY-6
            (status = 'queued' AND available_at <= ${now})
            OR (status = 'processing' AND leased_until <= ${now} -- impl: PS-CONCURRENCY-2, PS-CONCURRENCY-4
                AND executions < execution_limit)
        )
        AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
    RETURNING *
),
spent AS (
    UPDATE prompt_studio_job_queue
    SET revision = revision + 1,
        status = 'failed', completed_at = ${now}, error_message = 'lease expired, attempts exhausted',
        leased_until = NULL, lease_owner = NULL, closed_token = NULL, closed_by = NULL
    WHERE id = (SELECT gate.id FROM gate WHERE gate.exhausted)
        AND status = 'processing' AND leased_until <= ${now} AND executions >= execution_limit
    RETURNING id
)
SELECT gate.id AS candidate, gate.lease_token AS candidate_token, gate.expired, gate.exhausted, gate.impatient,
    gate.locked, ${now} AS read_at, spent.id AS spent, won.*
FROM gate LEFT JOIN won ON TRUE LEFT JOIN spent ON TRUE;

-- name: acquire_this_job
-- Differs because a claim also takes the job's advisory lock; it answers as the claim of the best job does.
-- It waits for the row, and a lease that was counted from before the wait might be over: the clock is read after it.
WITH candidate AS MATERIALIZED (
    SELECT id, lease_token, available_at FROM prompt_studio_job_queue
    WHERE id = :job_id AND status = 'queued'
    FOR NO KEY UPDATE
),
clock AS MATERIALIZED (SELECT ${instant} AS now FROM candidate),
gate AS MATERIALIZED (
    SELECT id, lease_token,
        id || '/' || lease_token = ANY(CAST(:impatient AS TEXT[])) AS impatient,
        CASE WHEN NOT CAST(:advisory_locks AS BOOLEAN) OR id = ANY(CAST(:held AS BIGINT[]))
            OR id || '/' || lease_token = ANY(CAST(:impatient AS TEXT[])) THEN NULL
        ELSE pg_try_advisory_lock(id) END AS locked
    FROM candidate WHERE available_at <= ${now}
),
won AS (
    UPDATE prompt_studio_job_queue
    SET revision = revision + 1,
        status = 'processing', was_reclaim = FALSE, lease_owner = :worker_id,
        leased_until = ${now} + :lease_milliseconds ${milliseconds},
        lease_token = lease_token + 1, executions = executions + 1,
        started_at = ${now}, late = FALSE, error_message = NULL, result = NULL, closed_token = NULL, closed_by = NULL
    WHERE id = (SELECT gate.id FROM gate WHERE gate.locked IS NOT FALSE)
        AND status = 'queued' AND available_at <= ${now}
    RETURNING *
)
SELECT gate.id AS candidate, gate.lease_token AS candidate_token, FALSE AS expired, FALSE AS exhausted,
    gate.impatient, gate.locked, ${now} AS read_at, NULL AS spent, won.*
FROM gate LEFT JOIN won ON TRUE;

-- name: hold_job
-- Only here because several sessions write at once: a job as it is now, and until the transaction ends.
SELECT id FROM prompt_studio_job_queue WHERE id = :job_id FOR NO KEY UPDATE;

-- name: unlock_job
-- Only here because of advisory locks: gives one back, and says whether this session had it.
SELECT pg_advisory_unlock(CAST(:job_id AS BIGINT)) AS unlocked;

-- name: own_locks
-- Only here because of advisory locks: which job ids this session has locked, whatever it believes.
SELECT (CAST(classid AS BIGINT) << 32) | CAST(objid AS BIGINT) AS job_id FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid = pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: pick_jobs_to_clean_up
-- Differs because JSON is taken apart by another function. The array keeps the planner from guessing how many there are.
UPDATE prompt_studio_job_queue SET revision = -revision
WHERE id = ANY(ARRAY(SELECT CAST(json_array_elements_text(CAST(:ids AS JSON)) AS BIGINT)))
    AND ${now} - completed_at > :age_milliseconds ${milliseconds}; -- impl: PS-CONCURRENCY-21

-- name: cleanup_jobs
-- Differs because JSON is taken apart by another function.
DELETE FROM prompt_studio_job_queue
WHERE id = ANY(ARRAY(SELECT CAST(json_array_elements_text(CAST(:ids AS JSON)) AS BIGINT))) AND revision < 0
RETURNING id;

-- name: lookup_key_of_user
-- Differs because the index has the user's digest, as three long texts are too long for it.
SELECT entity_id, fingerprint FROM prompt_studio_idempotency
WHERE entity_type = :entity_type AND idempotency_key = :idempotency_key
    AND user_id = :user_id -- impl: PS-IDEMPOTENCY-SCOPE-1
    AND sha256(CAST(replace(user_id, E'\\', E'\\\\') AS BYTEA))
        = sha256(CAST(replace(CAST(:user_id AS TEXT), E'\\', E'\\\\') AS BYTEA))
    AND (CAST(:retention_milliseconds AS BIGINT) IS NULL -- impl: PS-IDEMPOTENCY-PG-1
        OR created_at + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} > ${now});

-- name: record_key_of_user
-- Differs because the index has the user's digest.
INSERT INTO prompt_studio_idempotency AS known (entity_type, idempotency_key, user_id, entity_id, fingerprint, created_at)
VALUES (:entity_type, :idempotency_key, :user_id, :entity_id, :fingerprint, ${now})
ON CONFLICT (entity_type, idempotency_key, sha256(CAST(replace(user_id, E'\\', E'\\\\') AS BYTEA)))
    WHERE user_id IS NOT NULL -- impl: PS-IDEMPOTENCY-PG-2
DO UPDATE SET entity_id = excluded.entity_id, created_at = excluded.created_at, fingerprint = excluded.fingerprint
    WHERE known.created_at -- impl: PS-IDEMPOTENCY-PG-3
        + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} <= ${now}
RETURNING id;

-- name: delete_expired_keys
-- Differs because JSON is taken apart by another function.
DELETE FROM prompt_studio_idempotency
WHERE id = ANY(ARRAY(SELECT CAST(json_array_elements_text(CAST(:ids AS JSON)) AS BIGINT)))
    AND created_at + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} <= ${now} -- impl: PS-IDEMPOTENCY-PG-7
RETURNING id;

-- name: list_projects
-- Differs because a server's lower() knows more letters than a file's, unless the collation is "C".
SELECT *, CAST(metadata AS TEXT) AS metadata_json FROM prompt_studio_projects
WHERE (CAST(:user_id AS TEXT) IS NULL OR user_id = :user_id)
    AND (CAST(:status AS TEXT) IS NULL OR status = :status)
    AND (deleted = '0' OR CAST(:include_deleted AS BOOLEAN))
    AND (CAST(:search AS TEXT) IS NULL
        OR strpos(lower(name COLLATE "C"), lower(CAST(:search AS TEXT) COLLATE "C")) > 0
        OR strpos(lower(description COLLATE "C"), lower(CAST(:search AS TEXT) COLLATE "C")) > 0)
ORDER BY updated_at DESC, id DESC LIMIT :limit OFFSET :offset;

-- name: count_projects
-- Differs because a server's lower() knows more letters than a file's, unless the collation is "C".
SELECT COUNT(*) AS total FROM prompt_studio_projects
WHERE (CAST(:user_id AS TEXT) IS NULL OR user_id = :user_id)
    AND (CAST(:status AS TEXT) IS NULL OR status = :status)
    AND (deleted = '0' OR CAST(:include_deleted AS BOOLEAN))
    AND (CAST(:search AS TEXT) IS NULL
        OR strpos(lower(name COLLATE "C"), lower(CAST(:search AS TEXT) COLLATE "C")) > 0
        OR strpos(lower(description COLLATE "C"), lower(CAST(:search AS TEXT) COLLATE "C")) > 0);

-- name: ensure_prompt
-- Differs because a sequence does not see the ids that are given to it: it is moved on, so that none is given again.
WITH ${clock},
made AS (
    INSERT INTO prompt_studio_prompts (
        id, uuid, project_id, version_number, name, client_id, deleted, created_at, updated_at
    )
    SELECT CAST(:prompt_id AS BIGINT), :uuid, id, 1, :name, :client_id, '0', ${now}, ${now}
    FROM prompt_studio_projects WHERE id = :project_id AND deleted = '0'
    ON CONFLICT (id) DO NOTHING
    RETURNING id
)
SELECT id, setval(pg_get_serial_sequence('prompt_studio_prompts', 'id'), GREATEST(
    id, nextval(pg_get_serial_sequence('prompt_studio_prompts', 'id'))
)) FROM made;

-- name: job_stats
-- Differs because a difference of times is an interval, and a sum of whole numbers is a decimal.
SELECT status, job_type, COUNT(*) AS jobs,
    CAST(COALESCE(SUM(EXTRACT(EPOCH FROM completed_at - started_at)) FILTER (WHERE status = 'completed'), 0) * 1000
        AS DOUBLE PRECISION) AS processing_milliseconds
FROM prompt_studio_job_queue GROUP BY status, job_type;
