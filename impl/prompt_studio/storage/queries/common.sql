-- The statements of the store, for every database.
--
-- Each write carries its whole guard, so that guard and effect are one step; none relies on an earlier read.
-- What stands to the right of a SET is the row as it was found. `${now}` is the database's clock. Statuses are
-- literals, as in the partial indexes. Any one of three job types is `job_type IN (:job_type_1, ..., :job_type_3)`,
-- and each has a lease of its own, `:lease_milliseconds_1` and so on.
-- `${now} + n ${milliseconds}` is n milliseconds later, and `${epoch} + n ${milliseconds}` is n of them after 1970.
-- `${wakes}` stands where a job may be claimed from now on, and tells workers who listen, where a database can.

-- name: create_job
-- Inserts a queued job; without a time from which it is available it is so at once.
INSERT INTO prompt_studio_job_queue (
    uuid, job_type, entity_id, project_id, priority, status, payload, max_retries, client_id,
    created_at, available_at, execution_limit
) VALUES ( -- impl: PS-CONCURRENCY-20
    :uuid, :job_type, :entity_id, :project_id, :priority, 'queued', :payload, :max_retries, :client_id,
    ${now},
    COALESCE( -- hours by themselves: a database that multiplies a duration by a float rounds the product of all of it
        ${epoch} + CAST(:available_at AS BIGINT) / 3600000 * 3600000 ${milliseconds}
            + (CAST(:available_at AS BIGINT) - CAST(:available_at AS BIGINT) / 3600000 * 3600000) ${milliseconds},
        ${now}
    ),
    :max_retries + 1
) RETURNING *${wakes};

-- name: get_job
-- One job by its id.
SELECT * FROM prompt_studio_job_queue WHERE id = :job_id;

-- name: get_job_to_lease
-- One job, and whether it can be leased by its name now.
SELECT *, status = 'queued' AND available_at <= ${now} AS leasable FROM prompt_studio_job_queue WHERE id = :job_id;

-- name: get_job_by_uuid
-- One job by its uuid.
SELECT * FROM prompt_studio_job_queue WHERE uuid = :uuid;

-- name: list_jobs
-- The first jobs in claim order, whatever their status.
SELECT * FROM prompt_studio_job_queue
WHERE job_type IN (:job_type_1, :job_type_2, :job_type_3)
ORDER BY priority DESC, created_at, id LIMIT :limit;

-- name: list_{status}_jobs
-- The first jobs in claim order, of one status.
SELECT * FROM prompt_studio_job_queue
WHERE status = '{status}' AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
ORDER BY priority DESC, created_at, id LIMIT :limit;

-- name: count_jobs
-- How many jobs there are, whatever their status.
SELECT COUNT(*) AS jobs FROM prompt_studio_job_queue WHERE job_type IN (:job_type_1, :job_type_2, :job_type_3);

-- name: count_{status}_jobs
-- How many jobs have one status.
SELECT COUNT(*) AS jobs FROM prompt_studio_job_queue
WHERE status = '{status}' AND job_type IN (:job_type_1, :job_type_2, :job_type_3);

-- name: list_jobs_for_entity_ascending
-- An entity's jobs of one type, oldest first.
SELECT * FROM prompt_studio_job_queue WHERE entity_id = :entity_id AND job_type = :job_type
ORDER BY created_at, id LIMIT :limit;

-- name: list_jobs_for_entity_descending
-- An entity's jobs of one type, newest first.
SELECT * FROM prompt_studio_job_queue WHERE entity_id = :entity_id AND job_type = :job_type
ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: acquire_best_job
-- Leases the best eligible job: the better one of the best queued and the best expired.
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
        SELECT id FROM (
            SELECT * FROM (
                SELECT id, priority, created_at FROM prompt_studio_job_queue
                WHERE status = 'queued' AND available_at <= ${now}
                    AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
                ORDER BY priority DESC, created_at, id LIMIT 1
            ) AS best_queued
            UNION ALL
            SELECT * FROM (
                SELECT id, priority, created_at FROM prompt_studio_job_queue
                WHERE status = 'processing' AND leased_until <= ${now} AND executions < execution_limit
                    AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
                ORDER BY priority DESC, created_at, id LIMIT 1
            ) AS best_expired
        ) AS best ORDER BY priority DESC, created_at, id LIMIT 1 -- impl: PS-CONCURRENCY-7
    )
    AND ( -- impl: PS-CONCURRENCY-1, PS-CONCURRENCY-6
        (status = 'queued' AND available_at <= ${now})
        OR (status = 'processing' AND leased_until <= ${now} -- impl: PS-CONCURRENCY-2, PS-CONCURRENCY-4
            AND executions < execution_limit)
    )
    AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
RETURNING *;

-- name: acquire_this_job
-- Leases one job if it is queued and available, for an operator who names it.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'processing', was_reclaim = FALSE, lease_owner = :worker_id,
    leased_until = ${now} + :lease_milliseconds ${milliseconds},
    lease_token = lease_token + 1, executions = executions + 1,
    started_at = ${now}, late = FALSE, error_message = NULL, result = NULL, closed_token = NULL, closed_by = NULL
WHERE id = :job_id AND status = 'queued' AND available_at <= ${now}
RETURNING *;

-- name: renew_lease
-- Moves the end of the token's lease, never back; a lease that has expired is renewed all the same.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    leased_until = CASE -- impl: PS-CONCURRENCY-3
        WHEN leased_until > ${now} + :lease_milliseconds ${milliseconds} THEN leased_until
        ELSE ${now} + :lease_milliseconds ${milliseconds} END,
    late = (leased_until <= ${now}) -- impl: PS-CONCURRENCY-11
WHERE id = :job_id AND lease_token = :lease_token AND status = 'processing'
RETURNING *;

-- name: renew_lease_by_owner
-- The same for a caller who has only the name under which the job was acquired.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    leased_until = CASE
        WHEN leased_until > ${now} + :lease_milliseconds ${milliseconds} THEN leased_until
        ELSE ${now} + :lease_milliseconds ${milliseconds} END,
    late = (leased_until <= ${now})
WHERE id = :job_id AND lease_owner = :worker_id AND status = 'processing' -- impl: PS-CONCURRENCY-9
RETURNING *;

-- name: complete_job
-- Ends the token's attempt with a result.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'completed', result = :result, error_message = NULL, completed_at = ${now},
    leased_until = NULL, lease_owner = NULL, closed_token = lease_token, closed_by = 'complete',
    late = (leased_until <= ${now})
WHERE id = :job_id AND lease_token = :lease_token AND status = 'processing' -- impl: PS-CONCURRENCY-13
RETURNING *;

-- name: fail_job
-- Ends the token's attempt with an error: failed for good.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'failed', error_message = :error_message, result = NULL, completed_at = ${now},
    leased_until = NULL, lease_owner = NULL, closed_token = lease_token, closed_by = 'fail',
    late = (leased_until <= ${now})
WHERE id = :job_id AND lease_token = :lease_token AND status = 'processing' -- impl: PS-CONCURRENCY-13
RETURNING *;

-- name: fail_or_requeue_job
-- Ends the token's attempt with an error: queued again, after a pause, while executions are left; else failed.
-- The pause doubles with each execution, from 1 s to 600 s, and is spread by `:spread` thousandths.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = CASE WHEN executions < execution_limit THEN 'queued' ELSE 'failed' END, -- impl: PS-CONCURRENCY-14
    retry_count = CASE WHEN executions < execution_limit THEN retry_count + 1 ELSE retry_count END,
    available_at = CASE WHEN executions < execution_limit THEN
            ${now}
            + CASE WHEN executions > 10 THEN 600000 ELSE 1000 << (executions - 1) END * :spread / 1000 ${milliseconds}
        ELSE available_at END,
    started_at = CASE WHEN executions < execution_limit THEN NULL ELSE started_at END,
    completed_at = CASE WHEN executions < execution_limit THEN NULL ELSE ${now} END,
    error_message = :error_message, result = NULL,
    leased_until = NULL, lease_owner = NULL, closed_token = lease_token, closed_by = 'fail',
    late = (leased_until <= ${now})
WHERE id = :job_id AND lease_token = :lease_token AND status = 'processing' -- impl: PS-CONCURRENCY-13
RETURNING *;

-- name: release_job
-- Gives the token's attempt back, as if it had not begun.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'queued', available_at = ${now}, started_at = NULL,
    executions = executions - 1, -- impl: PS-CONCURRENCY-15
    leased_until = NULL, lease_owner = NULL, closed_token = lease_token, closed_by = 'release',
    late = (leased_until <= ${now})
WHERE id = :job_id AND lease_token = :lease_token AND status = 'processing'
RETURNING *${wakes};

-- name: set_completed
-- An operator's word that a running job is done.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'completed', completed_at = ${now}, leased_until = NULL, lease_owner = NULL,
    result = COALESCE(:result, result), error_message = COALESCE(:error_message, error_message),
    closed_token = NULL, closed_by = NULL
WHERE id = :job_id AND status = 'processing'
RETURNING *;

-- name: set_failed
-- An operator's word that a running job has failed.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'failed', completed_at = ${now}, leased_until = NULL, lease_owner = NULL,
    result = COALESCE(:result, result), error_message = COALESCE(:error_message, error_message),
    closed_token = NULL, closed_by = NULL
WHERE id = :job_id AND status = 'processing'
RETURNING *;

-- name: set_cancelled
-- Nobody shall begin or go on with the job.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'cancelled', completed_at = ${now}, leased_until = NULL, lease_owner = NULL,
    result = COALESCE(:result, result), error_message = COALESCE(:error_message, error_message),
    closed_token = NULL, closed_by = NULL
WHERE id = :job_id AND status IN ('queued', 'processing') -- impl: PS-CONCURRENCY-18
RETURNING *;

-- name: cancel_jobs_of_optimization
-- Nobody shall begin or go on with any job of the optimization.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'cancelled', completed_at = ${now}, leased_until = NULL, lease_owner = NULL,
    error_message = COALESCE(:reason, error_message), closed_token = NULL, closed_by = NULL
WHERE entity_id = :optimization_id AND job_type = 'optimization'
    AND status IN ('queued', 'processing') -- impl: PS-ENTITIES-4
RETURNING id, lease_token;

-- name: requeue_running_job
-- An operator takes a running job from its worker; the attempt counts, and one more is allowed.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'queued', available_at = ${now}, started_at = NULL, leased_until = NULL, lease_owner = NULL,
    execution_limit = CASE WHEN execution_limit > executions THEN execution_limit ELSE executions + 1 END,
    closed_token = NULL, closed_by = NULL
WHERE id = :job_id AND status = 'processing'
RETURNING *${wakes};

-- name: retry_failed_job
-- An operator lets a failed job run once more.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'queued', available_at = ${now}, started_at = NULL, completed_at = NULL,
    error_message = NULL, result = NULL, retry_count = retry_count + 1,
    execution_limit = CASE WHEN execution_limit > executions THEN execution_limit ELSE executions + 1 END,
    closed_token = NULL, closed_by = NULL
WHERE id = :job_id AND status = 'failed' -- impl: PS-CONCURRENCY-17
RETURNING *${wakes};

-- name: list_jobs_to_clean_up
-- The first of the jobs that ended before a moment, in the order in which they ended.
SELECT id FROM prompt_studio_job_queue
WHERE status IN ('completed', 'failed', 'cancelled')
    AND completed_at < ${now} - :age_milliseconds ${milliseconds}
ORDER BY completed_at, id LIMIT :limit;

-- name: pick_jobs_to_clean_up
-- Marks those of the listed jobs of which it is still true; a trigger keeps every other one from being deleted. Only
-- ended jobs have a time of their end; it stands so that no index fits: the ids are the way to the rows.
UPDATE prompt_studio_job_queue SET revision = -revision
WHERE id IN (SELECT value FROM json_each(:ids))
    AND ${now} - completed_at > :age_milliseconds ${milliseconds}; -- impl: PS-CONCURRENCY-21

-- name: cleanup_jobs
-- Deletes those of the listed jobs that this transaction marked.
DELETE FROM prompt_studio_job_queue WHERE id IN (SELECT value FROM json_each(:ids)) AND revision < 0 RETURNING id;

-- name: schema_version
-- Which version of the schema the database has; a read of one row, by which it is known that it answers.
SELECT MAX(version) AS version FROM prompt_studio_schema;

-- name: job_stats
-- The whole table, as numbers, at one instant.
SELECT status, job_type, COUNT(*) AS jobs,
    SUM(CASE WHEN status = 'completed' THEN completed_at - started_at ELSE 0 END) AS processing_milliseconds
FROM prompt_studio_job_queue GROUP BY status, job_type;

-- name: lease_stats
-- The leases, as numbers, at one instant.
SELECT COUNT(CASE WHEN leased_until > ${now} THEN 1 END) AS active,
    COUNT(CASE WHEN leased_until > ${now}
        AND leased_until <= ${now} + :warn_milliseconds ${milliseconds} THEN 1 END) AS expiring_soon,
    COUNT(CASE WHEN leased_until <= ${now} THEN 1 END) AS stale_processing
FROM prompt_studio_job_queue WHERE status = 'processing';

-- name: lookup_key_of_user
-- What a user's key stands for, unless it has expired; without a retention none expires.
SELECT entity_id, fingerprint FROM prompt_studio_idempotency
WHERE entity_type = :entity_type AND idempotency_key = :idempotency_key
    AND user_id = :user_id -- impl: PS-IDEMPOTENCY-SCOPE-1
    AND (CAST(:retention_milliseconds AS BIGINT) IS NULL -- impl: PS-IDEMPOTENCY-PG-1
        OR created_at + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} > ${now});

-- name: lookup_key_without_user
-- What a key that belongs to nobody stands for, unless it has expired.
SELECT entity_id, fingerprint FROM prompt_studio_idempotency
WHERE entity_type = :entity_type AND idempotency_key = :idempotency_key
    AND user_id IS NULL -- impl: PS-IDEMPOTENCY-SCOPE-4
    AND (CAST(:retention_milliseconds AS BIGINT) IS NULL
        OR created_at + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} > ${now});

-- name: record_key_of_user
-- Makes a user's key stand for an entity, unless it stands for one already; an expired row is replaced.
INSERT INTO prompt_studio_idempotency AS known (entity_type, idempotency_key, user_id, entity_id, fingerprint, created_at)
VALUES (:entity_type, :idempotency_key, :user_id, :entity_id, :fingerprint, ${now})
ON CONFLICT (entity_type, idempotency_key, user_id) WHERE user_id IS NOT NULL -- impl: PS-IDEMPOTENCY-PG-2
DO UPDATE SET entity_id = excluded.entity_id, created_at = excluded.created_at, fingerprint = excluded.fingerprint
    WHERE known.created_at -- impl: PS-IDEMPOTENCY-PG-3
        + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} <= ${now}
RETURNING id;

-- name: record_key_without_user
-- The same for a key that belongs to nobody.
INSERT INTO prompt_studio_idempotency AS known (entity_type, idempotency_key, user_id, entity_id, fingerprint, created_at)
VALUES (:entity_type, :idempotency_key, NULL, :entity_id, :fingerprint, ${now})
ON CONFLICT (entity_type, idempotency_key) WHERE user_id IS NULL -- impl: PS-IDEMPOTENCY-PG-2, PS-IDEMPOTENCY-SCOPE-4
DO UPDATE SET entity_id = excluded.entity_id, created_at = excluded.created_at, fingerprint = excluded.fingerprint
    WHERE known.created_at -- impl: PS-IDEMPOTENCY-PG-3
        + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} <= ${now}
RETURNING id;

-- name: fill_key
-- Writes the id of the entity that was made into the row of the key that was claimed for it.
UPDATE prompt_studio_idempotency SET entity_id = :entity_id WHERE id = :key_id;

-- name: list_expired_keys
-- Which keys have expired, the oldest first.
SELECT id FROM prompt_studio_idempotency
WHERE created_at <= ${now} - CAST(:retention_milliseconds AS BIGINT) ${milliseconds}
ORDER BY created_at, id LIMIT :limit;

-- name: delete_expired_keys
-- Deletes those of the listed keys that are still expired: one may have been recorded anew meanwhile.
DELETE FROM prompt_studio_idempotency
WHERE id IN (SELECT value FROM json_each(:ids))
    AND created_at + CAST(:retention_milliseconds AS BIGINT) ${milliseconds} <= ${now} -- impl: PS-IDEMPOTENCY-PG-7
RETURNING id;
