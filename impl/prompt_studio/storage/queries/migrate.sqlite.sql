-- How an SQLite file from before this library becomes one of it.
--
-- `prompt_studio_old_jobs` and `prompt_studio_old_keys` are temporary views of the old tables, in which a column that a
-- table lacks is NULL, a time that can be read is a whole number of milliseconds, every text compares byte by byte, and
-- the texts of payloads and results are the bytes that are in the file. They are converted into temporary tables, which
-- are looked at, and then stored. In SQLite any column may hold anything, so each is asked for its type.

-- name: list_columns
-- The columns of both old tables.
SELECT 'prompt_studio_job_queue' AS table_name, name, type FROM pragma_table_info('prompt_studio_job_queue')
UNION ALL
SELECT 'prompt_studio_idempotency', name, type FROM pragma_table_info('prompt_studio_idempotency');

-- name: list_brought_columns
-- The columns of the tables that the host application may have brought.
SELECT 'prompt_studio_projects' AS table_name, name FROM pragma_table_info('prompt_studio_projects')
UNION ALL
SELECT 'prompt_studio_prompts', name FROM pragma_table_info('prompt_studio_prompts')
UNION ALL
SELECT 'prompt_studio_optimizations', name FROM pragma_table_info('prompt_studio_optimizations')
UNION ALL
SELECT 'prompt_studio_optimization_iterations', name FROM pragma_table_info('prompt_studio_optimization_iterations');

-- name: list_dependents
-- What refers to the old tables and is not theirs.
SELECT 'table ' || found.name AS name
FROM sqlite_schema AS found, pragma_foreign_key_list(found.name) AS reference
WHERE found.type = 'table' AND lower(reference."table") IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
    AND found.tbl_name NOT IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
UNION
SELECT type || ' ' || name FROM sqlite_schema
WHERE type IN ('view', 'trigger') AND tbl_name NOT IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
    AND prompt_studio_refers(sql)
ORDER BY name;

-- name: list_drops
-- What goes away with the old tables.
SELECT type || ' ' || name AS name FROM sqlite_schema
WHERE type IN ('index', 'trigger') AND sql IS NOT NULL
    AND tbl_name IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
UNION
SELECT 'foreign key ' || found.name || '.' || reference."from" || ' to ' || reference."table"
FROM sqlite_schema AS found, pragma_foreign_key_list(found.name) AS reference
WHERE found.name IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
ORDER BY name;

-- name: last_ids
-- The highest ids that were ever given, also to rows that are gone.
SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'prompt_studio_job_queue') AS job_id,
    (SELECT seq FROM sqlite_sequence WHERE name = 'prompt_studio_idempotency') AS key_id;

-- name: convert_jobs
-- The jobs in their new form, what was done to each, and what forbids it.
CREATE TEMP TABLE prompt_studio_new_jobs AS
WITH known AS (
    SELECT *,
        COALESCE(status, 'queued') AS state,
        MIN(MAX(COALESCE(retry_count, 0), 0), 2147483645) AS retries,
        MIN(MAX(COALESCE(max_retries, 3), 0), 2147483646) AS retries_max
    FROM prompt_studio_old_jobs
),
counted AS (
    SELECT *,
        state IN ('completed', 'failed', 'cancelled') AS ended,
        COALESCE(created_at, started_at, completed_at, ${now}) AS made,
        retries + (state IN ('processing', 'completed', 'failed') OR state = 'cancelled' AND started_at IS NOT NULL)
            AS starts
    FROM known
)
SELECT id,
    COALESCE(uuid, lower(hex(randomblob(16)))) AS uuid,
    job_type,
    entity_id,
    project_id,
    MIN(MAX(COALESCE(priority, 5), 1), 10) AS priority,
    state AS status,
    prompt_studio_text(payload, encoding) AS payload,
    CASE WHEN ended THEN prompt_studio_text(result, encoding) END AS result,
    CASE WHEN state <> 'processing' THEN error_message END AS error_message,
    retries AS retry_count,
    retries_max AS max_retries,
    client_id,
    made AS created_at,
    MIN(made, ${now}) AS available_at, -- a time of another zone must not hide a job
    CASE state WHEN 'queued' THEN NULL WHEN 'cancelled' THEN started_at
    ELSE COALESCE(started_at, completed_at, made) END AS started_at,
    CASE WHEN ended THEN COALESCE(completed_at, started_at, made) END AS completed_at,
    CASE WHEN state = 'processing' THEN COALESCE(leased_until, ${now}) END AS leased_until, -- impl: PS-MIGRATION-7
    CASE WHEN state = 'processing' THEN COALESCE(NULLIF(lease_owner, ''), 'migrated') END AS lease_owner,
    starts AS lease_token,
    starts AS executions,
    MAX(retries_max + 1, starts + (state = 'queued')) AS execution_limit,
    state = 'processing' AND leased_until IS NOT NULL AS lease_kept,
    state = 'processing' AND leased_until IS NULL AS lease_given,
    state = 'processing' AND NULLIF(lease_owner, '') IS NULL AS owner_given,
    state <> 'processing' AND (leased_until IS NOT NULL OR lease_owner IS NOT NULL) AS lease_cleared,
    state = 'processing' AND error_message IS NOT NULL AS error_cleared,
    NOT ended AND result IS NOT NULL AS result_cleared,
    NOT ended AND completed_at IS NOT NULL OR state = 'queued' AND started_at IS NOT NULL AS time_cleared,
    ended AND completed_at IS NULL OR state IN ('processing', 'completed', 'failed') AND started_at IS NULL AS time_given,
    COALESCE(priority NOT BETWEEN 1 AND 10, FALSE) AS priority_limited,
    COALESCE(retry_count <> retries, FALSE) OR COALESCE(max_retries <> retries_max, FALSE) AS count_limited,
    uuid IS NULL OR status IS NULL OR priority IS NULL OR retry_count IS NULL OR max_retries IS NULL
        OR created_at IS NULL AS default_given,
    made > ${now} AS future,
    CASE
        WHEN typeof(id) <> 'integer' THEN 'the id is none'
        WHEN payload IS NOT NULL AND prompt_studio_text(payload, encoding) IS NULL THEN 'the payload is not Unicode'
        WHEN result IS NOT NULL AND prompt_studio_text(result, encoding) IS NULL THEN 'the result is not Unicode'
        WHEN payload IS NULL OR NOT json_valid(prompt_studio_text(payload, encoding)) THEN 'the payload is not JSON'
        WHEN result IS NOT NULL AND NOT json_valid(prompt_studio_text(result, encoding)) THEN 'the result is not JSON'
        WHEN 'text' IN (typeof(created_at), typeof(started_at), typeof(completed_at), typeof(leased_until))
            THEN 'a time cannot be read'
        WHEN client_id IS NULL
            OR 'blob' IN (typeof(uuid), typeof(client_id), typeof(error_message), typeof(lease_owner))
            THEN 'a text is missing, or is none'
        WHEN prompt_studio_text(CAST(client_id AS BLOB), encoding) IS NULL
            OR uuid IS NOT NULL AND prompt_studio_text(CAST(uuid AS BLOB), encoding) IS NULL
            OR error_message IS NOT NULL AND prompt_studio_text(CAST(error_message AS BLOB), encoding) IS NULL
            OR lease_owner IS NOT NULL AND prompt_studio_text(CAST(lease_owner AS BLOB), encoding) IS NULL
            THEN 'a text is not Unicode'
        WHEN job_type IS NULL OR job_type NOT IN ('evaluation', 'optimization', 'generation')
            OR state NOT IN ('queued', 'processing', 'completed', 'failed', 'cancelled')
            THEN 'the type or status is unknown'
        WHEN typeof(entity_id) <> 'integer' OR typeof(COALESCE(project_id, 0)) <> 'integer'
            OR typeof(COALESCE(priority, 0)) <> 'integer' OR typeof(COALESCE(retry_count, 0)) <> 'integer'
            OR typeof(COALESCE(max_retries, 0)) <> 'integer' THEN 'a number is none'
    END AS complaint -- impl: PS-MIGRATION-9
FROM counted, (SELECT encoding FROM pragma_encoding);

-- name: list_suspects
-- The jobs with JSON that the store might not be able to read, or to write again.
SELECT id FROM prompt_studio_new_jobs
WHERE prompt_studio_is_suspect(payload) OR prompt_studio_is_suspect(result)
ORDER BY id;

-- name: convert_keys
-- The keys in their new form, each with the first row of its scope; of those that no call could ask for there is none.
CREATE TEMP TABLE prompt_studio_new_keys AS
WITH known AS (
    SELECT *,
        length(entity_type) BETWEEN 1 AND 255 AND length(idempotency_key) BETWEEN 1 AND 255
            AND COALESCE(length(user_id) BETWEEN 1 AND 255, TRUE)
            AND instr(entity_type || idempotency_key || COALESCE(user_id, ''), char(0)) = 0 AS askable
    FROM prompt_studio_old_keys
)
SELECT id, entity_type, idempotency_key, user_id, entity_id,
    COALESCE(created_at, ${now}) AS created_at,
    CASE WHEN askable THEN MIN(id) OVER (PARTITION BY askable, entity_type, idempotency_key, user_id) END
        AS canonical_id, -- impl: PS-MIGRATION-8
    created_at IS NULL AS time_given,
    CASE
        WHEN typeof(id) <> 'integer' THEN 'the id is none'
        WHEN typeof(created_at) = 'text' THEN 'a time cannot be read'
        WHEN 'blob' IN (typeof(entity_type), typeof(idempotency_key), typeof(user_id)) THEN 'a text is none'
        WHEN entity_type IS NOT NULL AND prompt_studio_text(CAST(entity_type AS BLOB), encoding) IS NULL
            OR idempotency_key IS NOT NULL AND prompt_studio_text(CAST(idempotency_key AS BLOB), encoding) IS NULL
            OR user_id IS NOT NULL AND prompt_studio_text(CAST(user_id AS BLOB), encoding) IS NULL
            THEN 'a text is not Unicode'
        WHEN typeof(entity_id) <> 'integer' THEN 'a number is none'
    END AS complaint
FROM known, (SELECT encoding FROM pragma_encoding);

-- name: set_last_job_id
-- The next job gets an id that no job had.
INSERT INTO sqlite_sequence (name, seq)
SELECT 'prompt_studio_job_queue', MAX(:last, COALESCE((SELECT MAX(id) FROM prompt_studio_new_jobs), 0));

-- name: set_last_key_id
-- The next key gets an id that no key had.
INSERT INTO sqlite_sequence (name, seq)
SELECT 'prompt_studio_idempotency', MAX(:last, COALESCE((SELECT MAX(id) FROM prompt_studio_new_keys), 0));

-- name: forget_last_ids
-- What the copying counted.
DELETE FROM sqlite_sequence WHERE name IN ('prompt_studio_job_queue', 'prompt_studio_idempotency');

-- name: create_superseded_table
-- Keys that no lookup finds any more, each with the row that answers in its place.
CREATE TABLE prompt_studio_idempotency_superseded (
    id INTEGER PRIMARY KEY,
    entity_type TEXT,
    idempotency_key TEXT,
    user_id TEXT,
    entity_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    canonical_id INTEGER
) STRICT;
