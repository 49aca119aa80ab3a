-- How a Postgres database from before this library becomes one of it.
--
-- `prompt_studio_old_jobs` and `prompt_studio_old_keys` are temporary views of the old tables, in which every column has
-- its new type, and one that a table lacks is NULL. They are converted into temporary tables, which are looked at, and
-- then stored.

-- name: stay_in_schema
-- Only here because of the search_path: a table that is not in the first schema is none of ours, whatever it is called.
SELECT set_config('search_path', quote_ident(current_schema()), TRUE);

-- name: read_zone
-- That of the server, the database or the role, which a program has that sets none itself.
SELECT reset_val AS name FROM pg_settings WHERE name = 'TimeZone';

-- name: find_zone
-- Whether there is such a zone, and how it is written: a text that is none would be taken for one of POSIX's.
SELECT name FROM pg_timezone_names WHERE lower(name) = lower(CAST(:name AS TEXT)) LIMIT 1;

-- name: set_zone
-- Every time without a zone is read in this one, until the transaction ends.
SELECT set_config('timezone', :name, TRUE);

-- name: lift_limit
-- A large table may take longer than any call of the store may.
SET LOCAL statement_timeout = 0;

-- name: make_is_json
-- A cast would end the migration with nothing said of which row; `IS JSON` came with version 16.
CREATE FUNCTION pg_temp.prompt_studio_is_json(value TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS '
BEGIN
    PERFORM CAST(value AS JSON);
    RETURN TRUE;
EXCEPTION WHEN invalid_text_representation OR statement_too_complex THEN
    RETURN FALSE;
END';

-- name: make_time
-- Nor would that of a time that is kept as a text; infinity is none that can be read.
CREATE FUNCTION pg_temp.prompt_studio_time(value TEXT) RETURNS TIMESTAMPTZ LANGUAGE plpgsql AS '
BEGIN
    RETURN CAST(value AS TIMESTAMPTZ);
EXCEPTION WHEN data_exception THEN
    RETURN ''infinity'';
END';

-- name: make_number
-- Nor would that of a number; the least one stands for none.
CREATE FUNCTION pg_temp.prompt_studio_number(value TEXT) RETURNS BIGINT LANGUAGE plpgsql AS '
BEGIN
    RETURN CAST(value AS BIGINT);
EXCEPTION WHEN data_exception THEN
    RETURN -9223372036854775808;
END';

-- name: view_sequences
-- Where the old ids come from: the sequence of the default, whether or not the column owns it, and the one it owns.
CREATE TEMP VIEW prompt_studio_old_sequences AS
WITH ids AS (
    SELECT old.oid, old.relname, attnum FROM pg_class AS old JOIN pg_attribute ON attrelid = old.oid AND attname = 'id'
    WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE)
        AND relname IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
),
feeding AS MATERIALIZED ( -- what asks about a sequence must not come to ask about something else
    SELECT ids.relname, found.oid AS sequence FROM ids
    JOIN pg_attrdef AS given ON given.adrelid = ids.oid AND given.adnum = ids.attnum
    JOIN pg_depend AS link ON link.classid = CAST('pg_attrdef' AS REGCLASS) AND link.objid = given.oid
        AND link.refclassid = CAST('pg_class' AS REGCLASS)
    JOIN pg_class AS found ON found.oid = link.refobjid AND found.relkind = 'S'
    UNION
    SELECT ids.relname, found.oid FROM ids
    JOIN pg_depend AS link ON link.refclassid = CAST('pg_class' AS REGCLASS) AND link.refobjid = ids.oid
        AND link.refobjsubid = ids.attnum AND link.classid = CAST('pg_class' AS REGCLASS)
    JOIN pg_class AS found ON found.oid = link.objid AND found.relkind = 'S'
)
SELECT relname, sequence FROM feeding;

-- name: list_obstacles
-- What would be lost, or could make ids come back, without anybody having said so.
WITH old AS (
    SELECT * FROM pg_class WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE)
        AND relname IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
)
SELECT 'row-level security of ' || relname || ' would go away with it, and others see every row: drop its policies and '
    || 'disable it, migrate, then make them again' AS obstacle
FROM old WHERE relrowsecurity OR relforcerowsecurity
    OR EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = old.oid) -- impl: PS-MIGRATION-9
UNION ALL
SELECT 'nobody can say which ids ' || relname || ' gave, since their default is no sequence: set it to nextval of one '
    || 'that stands above them all'
FROM old JOIN pg_attribute ON attrelid = old.oid AND attname = 'id' AND atthasdef
WHERE relname NOT IN (SELECT relname FROM prompt_studio_old_sequences)
UNION ALL
SELECT 'this user may not read ' || CAST(CAST(sequence AS REGCLASS) AS TEXT) || ', which gives the ids of ' || relname
    || ': grant SELECT on it'
FROM prompt_studio_old_sequences WHERE NOT has_sequence_privilege(sequence, 'SELECT')
ORDER BY obstacle;

-- name: lock_prompt_studio_job_queue
-- Nobody else reads or writes the jobs until this transaction ends.
LOCK TABLE prompt_studio_job_queue IN ACCESS EXCLUSIVE MODE;

-- name: lock_prompt_studio_idempotency
-- Nor the keys.
LOCK TABLE prompt_studio_idempotency IN ACCESS EXCLUSIVE MODE;

-- name: list_columns
-- The columns of both old tables.
SELECT table_name, column_name AS name, data_type AS type FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
ORDER BY table_name, ordinal_position;

-- name: list_brought_columns
-- The columns of the tables that the host application may have brought.
SELECT table_name, column_name AS name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name IN (
    'prompt_studio_projects', 'prompt_studio_prompts', 'prompt_studio_optimizations',
    'prompt_studio_optimization_iterations'
)
ORDER BY table_name, ordinal_position;

-- name: list_dependents
-- What refers to the old tables and is not theirs.
WITH old AS (
    SELECT oid FROM pg_class WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE)
        AND relname IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
)
SELECT 'table ' || CAST(CAST(conrelid AS REGCLASS) AS TEXT) AS name FROM pg_constraint
WHERE contype = 'f' AND confrelid IN (SELECT oid FROM old) AND conrelid NOT IN (SELECT oid FROM old)
UNION
SELECT 'view ' || CAST(CAST(rule.ev_class AS REGCLASS) AS TEXT) FROM pg_depend AS link
JOIN pg_rewrite AS rule ON rule.oid = link.objid AND link.classid = CAST('pg_rewrite' AS REGCLASS)
WHERE link.refobjid IN (SELECT oid FROM old) AND rule.ev_class NOT IN (SELECT oid FROM old)
ORDER BY name;

-- name: list_drops
-- What goes away with the old tables.
SELECT 'index ' || indexname AS name FROM pg_indexes
WHERE schemaname = current_schema() AND tablename IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
UNION ALL
SELECT 'trigger ' || tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal AND relnamespace = CAST(current_schema() AS REGNAMESPACE)
    AND relname IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
UNION ALL
SELECT 'foreign key ' || relname || '.' || attname || ' to ' || CAST(CAST(confrelid AS REGCLASS) AS TEXT)
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
WHERE contype = 'f' AND relnamespace = CAST(current_schema() AS REGNAMESPACE)
    AND relname IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
UNION ALL
SELECT 'place of ' || relname || ' in the publication ' || pubname FROM pg_publication_rel
JOIN pg_publication ON pg_publication.oid = prpubid JOIN pg_class ON pg_class.oid = prrelid
WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE)
    AND relname IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
ORDER BY name;

-- name: list_rights
-- The statements that give the new tables the owner of the old ones, and to others what they could do with those.
WITH old AS (
    SELECT oid, relname, relowner, relacl FROM pg_class WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE)
        AND relname IN ('prompt_studio_job_queue', 'prompt_studio_idempotency')
),
given AS (
    SELECT relname, relowner, '' AS part, relacl AS acl FROM old
    UNION ALL
    SELECT relname, relowner, format(' (%%I)', attname), attacl FROM old JOIN pg_attribute ON attrelid = old.oid
    WHERE (relname, attname) IN ( -- a column that nobody knows goes away
        SELECT CASE relname WHEN 'prompt_studio_old_jobs' THEN CAST('prompt_studio_job_queue' AS NAME)
            ELSE CAST('prompt_studio_idempotency' AS NAME) END, attname
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = pg_my_temp_schema() AND relname IN ('prompt_studio_old_jobs', 'prompt_studio_old_keys')
    )
),
rights AS (
    SELECT relname, part, privilege_type || part AS privilege, is_grantable,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee
    FROM given, aclexplode(acl) WHERE grantee <> relowner
),
made AS ( -- of what the host application has not brought
    SELECT name FROM (VALUES (CAST('prompt_studio_projects' AS NAME)), ('prompt_studio_prompts'),
        ('prompt_studio_optimizations'), ('prompt_studio_optimization_iterations')) AS entity (name)
    WHERE name NOT IN (
        SELECT relname FROM pg_class WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE)
    )
)
SELECT 1 AS place, format(
    'GRANT %%s ON %%I TO %%s%%s', privilege, relname, grantee, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END
) AS sql FROM rights
UNION
SELECT 1, format('GRANT SELECT ON prompt_studio_schema TO %%s', grantee) FROM rights
UNION
SELECT 1, format( -- who may use the jobs may use what they are about
    'GRANT %%s ON %%I TO %%s%%s', privilege, made.name, grantee, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END
) FROM rights, made WHERE relname = 'prompt_studio_job_queue' AND part = ''
UNION
SELECT 2, format('ALTER TABLE %%I OWNER TO %%I', new.name, pg_get_userbyid(relowner))
FROM old, (
    SELECT name, name FROM (VALUES (CAST('prompt_studio_job_queue' AS NAME)), ('prompt_studio_idempotency')) AS same (name)
    UNION ALL
    SELECT 'prompt_studio_schema', old.relname FROM old
    UNION ALL
    SELECT name, 'prompt_studio_job_queue' FROM made
) AS new (name, owned_as)
WHERE pg_get_userbyid(relowner) <> current_user AND new.owned_as = relname
ORDER BY place, sql;

-- name: last_ids
-- The highest ids that were ever given, also to rows that are gone.
SELECT
    MAX(CASE relname WHEN 'prompt_studio_job_queue' THEN pg_sequence_last_value(sequence) END) AS job_id,
    MAX(CASE relname WHEN 'prompt_studio_idempotency' THEN pg_sequence_last_value(sequence) END) AS key_id
FROM prompt_studio_old_sequences;

-- name: convert_jobs
-- The jobs in their new form, what was done to each, and what forbids it.
CREATE TEMP TABLE prompt_studio_new_jobs ON COMMIT DROP AS
WITH ${clock},
known AS (
    SELECT *,
        COALESCE(status, 'queued') AS state,
        LEAST(GREATEST(COALESCE(retry_count, 0), 0), 2147483645) AS retries,
        LEAST(GREATEST(COALESCE(max_retries, 3), 0), 2147483646) AS retries_max
    FROM prompt_studio_old_jobs
),
counted AS (
    SELECT *,
        state IN ('completed', 'failed', 'cancelled') AS ended,
        COALESCE(created_at, started_at, completed_at, ${now}) AS made,
        retries + CASE WHEN state IN ('processing', 'completed', 'failed')
            OR (state = 'cancelled' AND started_at IS NOT NULL) THEN 1 ELSE 0 END AS starts
    FROM known
)
SELECT id,
    COALESCE(uuid, replace(CAST(gen_random_uuid() AS TEXT), '-', '')) AS uuid,
    job_type,
    entity_id,
    project_id,
    LEAST(GREATEST(COALESCE(priority, 5), 1), 10) AS priority,
    state AS status,
    payload,
    CASE WHEN ended THEN result END AS result,
    CASE WHEN state <> 'processing' THEN error_message END AS error_message,
    retries AS retry_count,
    retries_max AS max_retries,
    client_id,
    made AS created_at,
    LEAST(made, ${now}) AS available_at, -- a time of another zone must not hide a job
    CASE state WHEN 'queued' THEN NULL WHEN 'cancelled' THEN started_at
    ELSE COALESCE(started_at, completed_at, made) END AS started_at,
    CASE WHEN ended THEN COALESCE(completed_at, started_at, made) END AS completed_at,
    CASE WHEN state = 'processing' THEN COALESCE(leased_until, ${now}) END AS leased_until, -- impl: PS-MIGRATION-7
    CASE WHEN state = 'processing' THEN COALESCE(NULLIF(lease_owner, ''), 'migrated') END AS lease_owner,
    starts AS lease_token,
    starts AS executions,
    GREATEST(retries_max + 1, starts + CASE state WHEN 'queued' THEN 1 ELSE 0 END) AS execution_limit,
    state = 'processing' AND leased_until IS NOT NULL AS lease_kept,
    state = 'processing' AND leased_until IS NULL AS lease_given,
    state = 'processing' AND NULLIF(lease_owner, '') IS NULL AS owner_given,
    state <> 'processing' AND (leased_until IS NOT NULL OR lease_owner IS NOT NULL) AS lease_cleared,
    state = 'processing' AND error_message IS NOT NULL AS error_cleared,
    NOT ended AND result IS NOT NULL AS result_cleared,
    (NOT ended AND completed_at IS NOT NULL) OR (state = 'queued' AND started_at IS NOT NULL) AS time_cleared,
    (ended AND completed_at IS NULL)
        OR (state IN ('processing', 'completed', 'failed') AND started_at IS NULL) AS time_given,
    priority NOT BETWEEN 1 AND 10 AS priority_limited,
    COALESCE(retry_count <> retries, FALSE) OR COALESCE(max_retries <> retries_max, FALSE) AS count_limited,
    uuid IS NULL OR status IS NULL OR priority IS NULL OR retry_count IS NULL OR max_retries IS NULL
        OR created_at IS NULL AS default_given,
    made > ${now} AS future,
    CASE
        WHEN id IS NULL THEN 'the id is none'
        WHEN -9223372036854775808 IN (id, entity_id, project_id, priority, retry_count, max_retries)
            THEN 'a number is none'
        WHEN payload IS NULL OR NOT pg_temp.prompt_studio_is_json(payload) THEN 'the payload is not JSON'
        WHEN NOT pg_temp.prompt_studio_is_json(result) THEN 'the result is not JSON'
        WHEN created_at NOT BETWEEN '0001-01-02' AND '9999-12-30' OR started_at NOT BETWEEN '0001-01-02' AND '9999-12-30'
            OR completed_at NOT BETWEEN '0001-01-02' AND '9999-12-30'
            OR leased_until NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN 'a time cannot be read'
        WHEN job_type NOT IN ('evaluation', 'optimization', 'generation')
            OR state NOT IN ('queued', 'processing', 'completed', 'failed', 'cancelled')
            THEN 'the type or status is unknown'
        WHEN job_type IS NULL OR entity_id IS NULL OR client_id IS NULL THEN 'the type, entity or client is missing'
        WHEN uuid IS NOT NULL AND COUNT(*) OVER (PARTITION BY uuid) > 1 THEN 'the uuid is another job''s too'
    END AS complaint -- impl: PS-MIGRATION-9
FROM counted;

-- name: list_suspects
-- The jobs with JSON that may be too deep for the store, may have a number that is too long (641 digits in a row, in
-- parts, since a pattern repeats at most 255 times), or a character that it refuses, which is then an escape.
SELECT id FROM prompt_studio_new_jobs
WHERE length(payload) - length(replace(replace(payload, '[', ''), '{', '')) > 100
    OR length(result) - length(replace(replace(result, '[', ''), '{', '')) > 100
    OR (length(payload) > 640 AND payload ~ '[0-9]{255}[0-9]{255}[0-9]{131}')
    OR (length(result) > 640 AND result ~ '[0-9]{255}[0-9]{255}[0-9]{131}')
    OR payload ~ '\\u(0000|[dD][89a-fA-F])' OR result ~ '\\u(0000|[dD][89a-fA-F])'
ORDER BY id;

-- name: convert_keys
-- The keys in their new form, each with the first row of its scope; of those that no call could ask for there is none.
CREATE TEMP TABLE prompt_studio_new_keys ON COMMIT DROP AS
WITH ${clock},
known AS (
    SELECT *,
        length(entity_type) BETWEEN 1 AND 255 AND length(idempotency_key) BETWEEN 1 AND 255
            AND COALESCE(length(user_id) BETWEEN 1 AND 255, TRUE) AS askable
    FROM prompt_studio_old_keys
)
SELECT id, entity_type, idempotency_key, user_id, entity_id,
    COALESCE(created_at, ${now}) AS created_at,
    CASE WHEN askable THEN MIN(id) OVER (PARTITION BY askable, entity_type, idempotency_key, user_id) END
        AS canonical_id, -- impl: PS-MIGRATION-8
    created_at IS NULL AS time_given,
    CASE
        WHEN id IS NULL THEN 'the id is none'
        WHEN -9223372036854775808 IN (id, entity_id) THEN 'a number is none'
        WHEN created_at NOT BETWEEN '0001-01-02' AND '9999-12-30' THEN 'a time cannot be read'
        WHEN entity_id IS NULL THEN 'the entity is missing'
    END AS complaint
FROM known;

-- name: set_last_job_id
-- The next job gets an id that no job had.
SELECT setval(pg_get_serial_sequence('prompt_studio_job_queue', 'id'), last.id)
FROM (SELECT GREATEST(CAST(:last AS BIGINT), (SELECT MAX(id) FROM prompt_studio_new_jobs)) AS id) AS last
WHERE last.id > 0;

-- name: set_last_key_id
-- The next key gets an id that no key had.
SELECT setval(pg_get_serial_sequence('prompt_studio_idempotency', 'id'), last.id)
FROM (SELECT GREATEST(CAST(:last AS BIGINT), (SELECT MAX(id) FROM prompt_studio_new_keys)) AS id) AS last
WHERE last.id > 0;

-- name: create_superseded_table
-- Keys that no lookup finds any more, each with the row that answers in its place.
CREATE TABLE prompt_studio_idempotency_superseded (
    id BIGINT PRIMARY KEY,
    entity_type TEXT,
    idempotency_key TEXT,
    user_id TEXT,
    entity_id BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    canonical_id BIGINT
);
