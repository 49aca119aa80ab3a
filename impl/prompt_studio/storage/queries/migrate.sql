-- What a migration does on every database, between the conversion and the end: see the dialects' files.

-- name: list_complaints
-- The rows that cannot be converted, first ids first, and how many there are.
WITH complaints AS (
    SELECT 'job' AS kind, id, complaint FROM prompt_studio_new_jobs WHERE complaint IS NOT NULL
    UNION ALL
    SELECT 'job', id, 'another job has its id or uuid' FROM prompt_studio_new_jobs
    WHERE complaint IS NULL AND (
        id IN (SELECT id FROM prompt_studio_new_jobs GROUP BY id HAVING COUNT(*) > 1)
        OR uuid IN (SELECT uuid FROM prompt_studio_new_jobs GROUP BY uuid HAVING COUNT(*) > 1)
    )
    UNION ALL
    SELECT 'key', id, complaint FROM prompt_studio_new_keys WHERE complaint IS NOT NULL
    UNION ALL
    SELECT 'key', id, 'another key has its id' FROM prompt_studio_new_keys
    WHERE complaint IS NULL AND id IN (SELECT id FROM prompt_studio_new_keys GROUP BY id HAVING COUNT(*) > 1)
)
SELECT kind, id, complaint, COUNT(*) OVER () AS complaints FROM complaints ORDER BY kind, id LIMIT :limit;

-- name: find_jobs_by_id
-- So that each of the suspects is found at once.
CREATE INDEX prompt_studio_new_jobs_id ON prompt_studio_new_jobs (id);

-- name: read_suspect
-- One of them.
SELECT payload, result FROM prompt_studio_new_jobs WHERE id = :id;

-- name: count_changed_jobs
-- How many jobs there are, and what becomes of them.
SELECT COUNT(*) AS jobs,
    COUNT(CASE WHEN lease_kept THEN 1 END) AS lease_kept,
    COUNT(CASE WHEN lease_given THEN 1 END) AS lease_given,
    COUNT(CASE WHEN owner_given THEN 1 END) AS owner_given,
    COUNT(CASE WHEN lease_cleared THEN 1 END) AS lease_cleared,
    COUNT(CASE WHEN error_cleared THEN 1 END) AS error_cleared,
    COUNT(CASE WHEN result_cleared THEN 1 END) AS result_cleared,
    COUNT(CASE WHEN time_cleared THEN 1 END) AS time_cleared,
    COUNT(CASE WHEN time_given THEN 1 END) AS time_given,
    COUNT(CASE WHEN priority_limited THEN 1 END) AS priority_limited,
    COUNT(CASE WHEN count_limited THEN 1 END) AS count_limited,
    COUNT(CASE WHEN default_given THEN 1 END) AS default_given,
    COUNT(CASE WHEN future THEN 1 END) AS future
FROM prompt_studio_new_jobs;

-- name: count_changed_keys
-- How many rows of keys there are, and what becomes of them.
SELECT COUNT(*) AS keys,
    COUNT(CASE WHEN canonical_id <> id THEN 1 END) AS key_repeated,
    COUNT(CASE WHEN canonical_id IS NULL THEN 1 END) AS key_unaskable,
    COUNT(CASE WHEN time_given THEN 1 END) AS key_time_given
FROM prompt_studio_new_keys;

-- name: forget_old_jobs
-- The view stands in the way of the next.
DROP VIEW prompt_studio_old_jobs;

-- name: forget_old_keys
-- The view stands in the way of the next.
DROP VIEW prompt_studio_old_keys;

-- name: drop_prompt_studio_job_queue
-- The rows are in a temporary table by now, and nothing is committed before they are back.
DROP TABLE prompt_studio_job_queue;

-- name: drop_prompt_studio_idempotency
-- The rows are in a temporary table by now, and nothing is committed before they are back.
DROP TABLE prompt_studio_idempotency;

-- name: store_jobs
-- Every job, in the new table.
INSERT INTO prompt_studio_job_queue ( -- impl: PS-MIGRATION-5
    id, uuid, job_type, entity_id, project_id, priority, status, payload, result, error_message, retry_count,
    max_retries, client_id, created_at, available_at, started_at, completed_at, leased_until, lease_owner, lease_token,
    executions, execution_limit
)
SELECT id, uuid, job_type, entity_id, project_id, priority, status, payload, result, error_message, retry_count,
    max_retries, client_id, created_at, available_at, started_at, completed_at, leased_until, lease_owner, lease_token,
    executions, execution_limit
FROM prompt_studio_new_jobs;

-- name: store_keys
-- The first row of each key and scope.
INSERT INTO prompt_studio_idempotency (id, entity_type, idempotency_key, user_id, entity_id, created_at)
SELECT id, entity_type, idempotency_key, user_id, entity_id, created_at
FROM prompt_studio_new_keys WHERE id = canonical_id;

-- name: store_superseded_keys
-- All others.
INSERT INTO prompt_studio_idempotency_superseded (
    id, entity_type, idempotency_key, user_id, entity_id, created_at, canonical_id
)
SELECT id, entity_type, idempotency_key, user_id, entity_id, created_at, canonical_id
FROM prompt_studio_new_keys WHERE canonical_id IS NULL OR canonical_id <> id;
