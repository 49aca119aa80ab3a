-- Version 1 of the schema, for SQLite.
-- Times are whole milliseconds since 1970-01-01 UTC. Payloads and results are JSON text, kept as it was given.
-- A CHECK that guards an invariant of specs/invariants.md has the invariant's name, which the store reports.

-- name: create_schema_table
-- Which versions of the schema this database went through.
CREATE TABLE prompt_studio_schema (
    version INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL
) STRICT;

-- name: create_job_table
-- One row for each job; AUTOINCREMENT, so that the id of a deleted job is never given to another. Times are ANY and
-- have a CHECK: a STRICT type is looked at before the triggers, which tell an older program what is wrong.
CREATE TABLE prompt_studio_job_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    job_type TEXT NOT NULL,
    entity_id INTEGER NOT NULL,
    project_id INTEGER,
    priority INTEGER NOT NULL DEFAULT 5,
    status TEXT NOT NULL DEFAULT 'queued',
    payload TEXT NOT NULL,
    result TEXT,
    error_message TEXT,
    retry_count INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL DEFAULT 3,
    client_id TEXT NOT NULL,
    created_at ANY NOT NULL,
    available_at ANY NOT NULL,
    started_at ANY,
    completed_at ANY,
    leased_until ANY,
    lease_owner TEXT,
    lease_token INTEGER NOT NULL DEFAULT 0,
    executions INTEGER NOT NULL DEFAULT 0,
    execution_limit INTEGER NOT NULL,
    was_reclaim INTEGER NOT NULL DEFAULT 0,
    late INTEGER NOT NULL DEFAULT 0,
    closed_token INTEGER,
    closed_by TEXT,
    revision INTEGER NOT NULL DEFAULT 1, -- changed by each of our updates, and by no older program's
    CONSTRAINT "INV-LEASE-FIELDS" CHECK (
        (status = 'processing') = (leased_until IS NOT NULL) AND (status = 'processing') = (lease_owner IS NOT NULL)
    ),
    CONSTRAINT "INV-EXECUTIONS-BOUNDED" CHECK (
        executions BETWEEN 0 AND execution_limit AND (status <> 'queued' OR executions < execution_limit)
    ),
    CONSTRAINT "INV-TOKEN-GROWS" CHECK (lease_token >= executions), -- each execution took a token, and kept it
    CONSTRAINT "INV-RESULT-FENCED" CHECK ( -- an attempt starts clean, and only its end may write
        (status <> 'processing' OR error_message IS NULL) AND (status NOT IN ('queued', 'processing') OR result IS NULL)
    ),
    CONSTRAINT "INV-REPLAY-SAFE" CHECK ( -- the mark of a closing call is the last token's, and complete
        (closed_token IS NULL) = (closed_by IS NULL)
        AND (closed_token IS NULL OR (closed_token = lease_token AND status <> 'processing'))
    ),
    CONSTRAINT closed_by_is_known CHECK (closed_by IN ('complete', 'fail', 'release')),
    CONSTRAINT terminal_is_completed CHECK (
        (status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)
    ),
    CONSTRAINT queued_is_not_started CHECK (status <> 'queued' OR started_at IS NULL),
    CONSTRAINT running_is_started CHECK (status NOT IN ('processing', 'completed', 'failed') OR started_at IS NOT NULL),
    CONSTRAINT status_is_known CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT job_type_is_known CHECK (job_type IN ('evaluation', 'optimization', 'generation')),
    CONSTRAINT priority_in_range CHECK (priority BETWEEN 1 AND 10),
    CONSTRAINT max_retries_in_range CHECK (max_retries BETWEEN 0 AND 2147483646),
    CONSTRAINT retry_count_in_range CHECK (retry_count >= 0),
    CONSTRAINT times_are_milliseconds CHECK (
        typeof(created_at) = 'integer' AND typeof(available_at) = 'integer'
        AND typeof(COALESCE(started_at, 0)) = 'integer' AND typeof(COALESCE(completed_at, 0)) = 'integer'
        AND typeof(COALESCE(leased_until, 0)) = 'integer'
    ),
    CONSTRAINT flags_are_flags CHECK (was_reclaim IN (0, 1) AND late IN (0, 1)),
    CONSTRAINT payload_is_json CHECK (json_valid(payload)),
    CONSTRAINT result_is_json CHECK (result IS NULL OR json_valid(result))
) STRICT;

-- name: create_claim_order_index_over_queued
-- The claim order. It holds no time that moves, so a renewal or a delay touches no index.
CREATE INDEX prompt_studio_job_queue_claim_queued
ON prompt_studio_job_queue (priority DESC, created_at, id) WHERE status = 'queued';

-- name: create_claim_order_index_over_processing
-- The same order over what runs, where expired leases are found.
CREATE INDEX prompt_studio_job_queue_claim_processing
ON prompt_studio_job_queue (priority DESC, created_at, id) WHERE status = 'processing';

-- name: create_entity_index
-- The jobs of one entity, in the order in which they were made.
CREATE INDEX prompt_studio_job_queue_entity ON prompt_studio_job_queue (entity_id, job_type, created_at, id);

-- name: create_index_over_ended
-- The jobs that have ended, in the order in which cleanup_jobs deletes them.
CREATE INDEX prompt_studio_job_queue_ended
ON prompt_studio_job_queue (completed_at, id) WHERE status IN ('completed', 'failed', 'cancelled');

-- name: refuse_an_old_insert
-- A program from before this schema does not say how often a job may start.
CREATE TRIGGER prompt_studio_refuse_old_insert BEFORE INSERT ON prompt_studio_job_queue
WHEN NEW.execution_limit IS NULL -- impl: PS-MIGRATION-6
BEGIN
    SELECT RAISE(ABORT,
        'this database was migrated, and this program is too old to change it: stop it, and use prompt-studio-core');
END;

-- name: refuse_an_old_update
-- Nor does it know the revision.
CREATE TRIGGER prompt_studio_refuse_old_update BEFORE UPDATE ON prompt_studio_job_queue
WHEN NEW.revision = OLD.revision -- impl: PS-MIGRATION-6
BEGIN
    SELECT RAISE(ABORT,
        'this database was migrated, and this program is too old to change it: stop it, and use prompt-studio-core');
END;

-- name: refuse_an_old_delete
-- It would take every time for an old one: to SQLite a number is less than a text.
CREATE TRIGGER prompt_studio_refuse_old_delete BEFORE DELETE ON prompt_studio_job_queue
WHEN OLD.revision > 0 -- impl: PS-MIGRATION-6
BEGIN
    SELECT RAISE(ABORT,
        'this database was migrated, and this program is too old to change it: stop it, and use prompt-studio-core');
END;

-- name: create_idempotency_table
-- What each key of each scope stands for. A row without a fingerprint matches every request.
CREATE TABLE prompt_studio_idempotency (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    entity_type TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    user_id TEXT,
    entity_id INTEGER NOT NULL,
    fingerprint TEXT,
    created_at ANY NOT NULL, -- as in the job table
    CONSTRAINT entity_type_length CHECK (length(entity_type) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_key_length CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT user_id_length CHECK (length(user_id) BETWEEN 1 AND 255),
    CONSTRAINT time_is_milliseconds CHECK (typeof(created_at) = 'integer')
) STRICT;

-- name: create_scope_of_a_user
-- One row for each key of a user.
CREATE UNIQUE INDEX uq_ps_idem_user
ON prompt_studio_idempotency (entity_type, idempotency_key, user_id) WHERE user_id IS NOT NULL;

-- name: create_scope_without_user
-- One row for each key that belongs to nobody: in a plain UNIQUE, NULLs never conflict.
CREATE UNIQUE INDEX uq_ps_idem_without_user
ON prompt_studio_idempotency (entity_type, idempotency_key) WHERE user_id IS NULL;

-- name: create_key_age_index
-- The keys in the order in which they expire.
CREATE INDEX prompt_studio_idempotency_age ON prompt_studio_idempotency (created_at, id);

-- name: refuse_an_old_key
-- An older program leaves the time to a default, or gives a text. It says OR IGNORE, which would swallow any other
-- refusal.
CREATE TRIGGER prompt_studio_refuse_old_key BEFORE INSERT ON prompt_studio_idempotency
WHEN typeof(NEW.created_at) <> 'integer' -- impl: PS-MIGRATION-6
BEGIN
    SELECT RAISE(ABORT,
        'this database was migrated, and this program is too old to change it: stop it, and use prompt-studio-core');
END;

-- name: create_projects_table
-- The projects of Prompt Studio's users. This table and the next three may be the host application's: then a migration
-- leaves them as they are. Times are texts in UTC, as CURRENT_TIMESTAMP gives them, with milliseconds.
CREATE TABLE prompt_studio_projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT,
    user_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'draft',
    deleted INTEGER NOT NULL DEFAULT 0,
    deleted_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    metadata TEXT,
    CONSTRAINT project_name_of_user UNIQUE (name, user_id, deleted), -- impl: PS-ENTITIES-2
    CONSTRAINT project_status_is_known CHECK (status IN ('draft', 'active', 'archived')),
    CONSTRAINT deleted_is_a_flag CHECK (deleted IN (0, 1)),
    CONSTRAINT metadata_is_json CHECK (metadata IS NULL OR json_valid(metadata))
) STRICT;

-- name: create_prompts_table
-- The versions of each project's prompts.
CREATE TABLE prompt_studio_prompts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    project_id INTEGER NOT NULL REFERENCES prompt_studio_projects (id) ON DELETE CASCADE,
    signature_id INTEGER,
    version_number INTEGER NOT NULL DEFAULT 1,
    name TEXT NOT NULL,
    system_prompt TEXT,
    user_prompt TEXT,
    few_shot_examples TEXT,
    modules_config TEXT,
    parent_version_id INTEGER,
    change_description TEXT,
    client_id TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    deleted_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    CONSTRAINT prompt_version_of_project UNIQUE (project_id, name, version_number),
    CONSTRAINT deleted_is_a_flag CHECK (deleted IN (0, 1)),
    CONSTRAINT few_shot_examples_is_json CHECK (few_shot_examples IS NULL OR json_valid(few_shot_examples)),
    CONSTRAINT modules_config_is_json CHECK (modules_config IS NULL OR json_valid(modules_config))
) STRICT;

-- name: create_optimizations_table
-- The runs that look for a better version of a prompt.
CREATE TABLE prompt_studio_optimizations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    project_id INTEGER NOT NULL REFERENCES prompt_studio_projects (id) ON DELETE CASCADE,
    name TEXT,
    initial_prompt_id INTEGER NOT NULL REFERENCES prompt_studio_prompts (id) ON DELETE CASCADE,
    optimized_prompt_id INTEGER,
    optimizer_type TEXT NOT NULL,
    optimization_config TEXT NOT NULL,
    initial_metrics TEXT,
    final_metrics TEXT,
    improvement_percentage REAL,
    iterations_completed INTEGER,
    max_iterations INTEGER,
    bootstrap_samples INTEGER,
    status TEXT NOT NULL DEFAULT 'pending',
    error_message TEXT,
    total_tokens INTEGER,
    total_cost REAL,
    client_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    completed_at TEXT,
    CONSTRAINT optimization_status_is_known CHECK (
        status IN ('pending', 'running', 'completed', 'failed', 'cancelled')
    ),
    CONSTRAINT optimization_config_is_json CHECK (optimization_config IS NULL OR json_valid(optimization_config)),
    CONSTRAINT initial_metrics_is_json CHECK (initial_metrics IS NULL OR json_valid(initial_metrics)),
    CONSTRAINT final_metrics_is_json CHECK (final_metrics IS NULL OR json_valid(final_metrics))
) STRICT;

-- name: create_optimizations_index
-- The optimizations of a project.
CREATE INDEX prompt_studio_optimizations_project ON prompt_studio_optimizations (project_id, id);

-- name: create_iterations_table
-- What an optimization has tried.
CREATE TABLE prompt_studio_optimization_iterations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    optimization_id INTEGER NOT NULL REFERENCES prompt_studio_optimizations (id) ON DELETE CASCADE,
    iteration_number INTEGER NOT NULL,
    prompt_variant TEXT,
    metrics TEXT,
    tokens_used INTEGER,
    cost REAL,
    note TEXT,
    created_at TEXT NOT NULL,
    CONSTRAINT prompt_variant_is_json CHECK (prompt_variant IS NULL OR json_valid(prompt_variant)),
    CONSTRAINT metrics_is_json CHECK (metrics IS NULL OR json_valid(metrics))
) STRICT;

-- name: create_iterations_index
-- The iterations of an optimization.
CREATE INDEX prompt_studio_optimization_iterations_order
ON prompt_studio_optimization_iterations (optimization_id, iteration_number, id);

-- name: record_schema_version
-- Last, so that a database with this row has all of the above.
INSERT INTO prompt_studio_schema (version, applied_at) VALUES (1, ${now});
