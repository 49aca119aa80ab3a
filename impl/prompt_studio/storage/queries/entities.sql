-- Projects, prompts, optimizations and their iterations, for every database.
--
-- The tables may be the host application's. So '0' and '1' are texts, which become whatever `deleted` is there; JSON is
-- read as the text that it is (`..._json`); and a time is written by `${stamp}`, in the form that its column has.

-- name: create_project
-- Inserts a project.
INSERT INTO prompt_studio_projects (
    uuid, name, description, user_id, client_id, status, deleted, created_at, updated_at, metadata
) VALUES (:uuid, :name, :description, :user_id, :client_id, :status, '0', ${stamp}, ${stamp}, :metadata)
RETURNING *, CAST(metadata AS TEXT) AS metadata_json;

-- name: get_project
-- One project by its id.
SELECT *, CAST(metadata AS TEXT) AS metadata_json FROM prompt_studio_projects
WHERE id = :project_id AND (deleted = '0' OR CAST(:include_deleted AS BOOLEAN))
    AND (CAST(:user_id AS TEXT) IS NULL OR user_id = :user_id); -- impl: PS-ENTITIES-5

-- name: list_projects
-- A page of projects, the last that was changed first.
SELECT *, CAST(metadata AS TEXT) AS metadata_json FROM prompt_studio_projects
WHERE (CAST(:user_id AS TEXT) IS NULL OR user_id = :user_id)
    AND (CAST(:status AS TEXT) IS NULL OR status = :status)
    AND (deleted = '0' OR CAST(:include_deleted AS BOOLEAN))
    AND (CAST(:search AS TEXT) IS NULL OR instr(lower(name), lower(:search)) > 0
        OR instr(lower(description), lower(:search)) > 0)
ORDER BY updated_at DESC, id DESC LIMIT :limit OFFSET :offset;

-- name: count_projects
-- How many there are on all pages.
SELECT COUNT(*) AS total FROM prompt_studio_projects
WHERE (CAST(:user_id AS TEXT) IS NULL OR user_id = :user_id)
    AND (CAST(:status AS TEXT) IS NULL OR status = :status)
    AND (deleted = '0' OR CAST(:include_deleted AS BOOLEAN))
    AND (CAST(:search AS TEXT) IS NULL OR instr(lower(name), lower(:search)) > 0
        OR instr(lower(description), lower(:search)) > 0);

-- name: update_project
-- Changes those columns of a project that the caller named.
UPDATE prompt_studio_projects
SET name = CASE WHEN CAST(:set_name AS BOOLEAN) THEN :name ELSE name END,
    description = CASE WHEN CAST(:set_description AS BOOLEAN) THEN :description ELSE description END,
    status = CASE WHEN CAST(:set_status AS BOOLEAN) THEN :status ELSE status END,
    metadata = CASE WHEN CAST(:set_metadata AS BOOLEAN) THEN :metadata ELSE metadata END,
    updated_at = ${stamp}
WHERE id = :project_id AND deleted = '0'
RETURNING *, CAST(metadata AS TEXT) AS metadata_json;

-- name: hide_project
-- From now on the project is there for those only who ask for deleted ones.
UPDATE prompt_studio_projects SET deleted = '1', deleted_at = ${stamp}, updated_at = ${stamp}
WHERE id = :project_id AND deleted = '0'
RETURNING id;

-- name: delete_project
-- Deletes the project, and what belongs to it.
DELETE FROM prompt_studio_projects WHERE id = :project_id RETURNING id;

-- name: create_prompt
-- Inserts a version of a prompt, if its project is there.
INSERT INTO prompt_studio_prompts (
    uuid, project_id, signature_id, version_number, name, system_prompt, user_prompt, few_shot_examples, modules_config,
    parent_version_id, change_description, client_id, deleted, created_at, updated_at
)
SELECT :uuid, id, CAST(:signature_id AS BIGINT), CAST(:version_number AS INTEGER), :name, :system_prompt, :user_prompt,
    :few_shot_examples, :modules_config, CAST(:parent_version_id AS BIGINT), :change_description, :client_id, '0',
    ${stamp}, ${stamp}
FROM prompt_studio_projects WHERE id = :project_id AND deleted = '0'
RETURNING *, CAST(few_shot_examples AS TEXT) AS few_shot_examples_json, CAST(modules_config AS TEXT) AS modules_config_json;

-- name: ensure_prompt
-- Inserts an empty prompt with this id, unless there is one, if its project is there.
INSERT INTO prompt_studio_prompts (
    id, uuid, project_id, version_number, name, client_id, deleted, created_at, updated_at
)
SELECT CAST(:prompt_id AS BIGINT), :uuid, id, 1, :name, :client_id, '0', ${stamp}, ${stamp}
FROM prompt_studio_projects WHERE id = :project_id AND deleted = '0'
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: get_prompt
-- One version of a prompt by its id.
SELECT *, CAST(few_shot_examples AS TEXT) AS few_shot_examples_json, CAST(modules_config AS TEXT) AS modules_config_json
FROM prompt_studio_prompts WHERE id = :prompt_id AND (deleted = '0' OR CAST(:include_deleted AS BOOLEAN));

-- name: get_prompt_with_project
-- The same, and whose it is.
SELECT prompt.*, CAST(few_shot_examples AS TEXT) AS few_shot_examples_json,
    CAST(modules_config AS TEXT) AS modules_config_json,
    project.name AS project_name, project.user_id AS project_user_id, project.status AS project_status
FROM prompt_studio_prompts AS prompt JOIN prompt_studio_projects AS project ON project.id = prompt.project_id
WHERE prompt.id = :prompt_id
    AND ((prompt.deleted = '0' AND project.deleted = '0') OR CAST(:include_deleted AS BOOLEAN))
    AND (CAST(:user_id AS TEXT) IS NULL OR project.user_id = :user_id); -- impl: PS-ENTITIES-5

-- name: list_prompts
-- A page of a project's prompts, the last that was changed first.
SELECT *, CAST(few_shot_examples AS TEXT) AS few_shot_examples_json, CAST(modules_config AS TEXT) AS modules_config_json
FROM prompt_studio_prompts WHERE project_id = :project_id AND deleted = '0'
ORDER BY updated_at DESC, id DESC LIMIT :limit OFFSET :offset;

-- name: count_prompts
-- How many there are on all pages.
SELECT COUNT(*) AS total FROM prompt_studio_prompts WHERE project_id = :project_id AND deleted = '0';

-- name: create_optimization
-- Inserts an optimization, if its project is there and the prompt is one of it.
INSERT INTO prompt_studio_optimizations (
    uuid, project_id, name, initial_prompt_id, optimizer_type, optimization_config, max_iterations, bootstrap_samples,
    status, client_id, created_at
)
SELECT :uuid, project.id, :name, prompt.id, :optimizer_type, :optimization_config, CAST(:max_iterations AS BIGINT),
    CAST(:bootstrap_samples AS BIGINT), :status, :client_id, ${stamp}
FROM prompt_studio_prompts AS prompt JOIN prompt_studio_projects AS project ON project.id = prompt.project_id
WHERE prompt.id = :initial_prompt_id AND project.id = :project_id AND prompt.deleted = '0' AND project.deleted = '0'
RETURNING *, CAST(optimization_config AS TEXT) AS optimization_config_json,
    CAST(initial_metrics AS TEXT) AS initial_metrics_json, CAST(final_metrics AS TEXT) AS final_metrics_json;

-- name: get_optimization
-- One optimization by its id; of a user's projects, if one is named.
SELECT *, CAST(optimization_config AS TEXT) AS optimization_config_json,
    CAST(initial_metrics AS TEXT) AS initial_metrics_json, CAST(final_metrics AS TEXT) AS final_metrics_json
FROM prompt_studio_optimizations
WHERE id = :optimization_id
    AND (CAST(:user_id AS TEXT) IS NULL OR project_id = (
        SELECT project.id FROM prompt_studio_projects AS project
        WHERE project.id = prompt_studio_optimizations.project_id AND project.user_id = :user_id -- impl: PS-ENTITIES-5
            AND (project.deleted = '0' OR CAST(:include_deleted AS BOOLEAN))
    ));

-- name: get_optimization_job_of_user
-- The job of an optimization whose project is the user's and was not deleted.
SELECT job.* FROM prompt_studio_job_queue AS job
    JOIN prompt_studio_optimizations AS optimization ON optimization.id = job.entity_id
    JOIN prompt_studio_projects AS project ON project.id = optimization.project_id
WHERE job.id = :job_id AND job.job_type = 'optimization'
    AND project.deleted = '0' AND project.user_id = :user_id; -- impl: PS-ENTITIES-5

-- name: list_optimizations
-- A page of optimizations, the youngest first.
SELECT *, CAST(optimization_config AS TEXT) AS optimization_config_json,
    CAST(initial_metrics AS TEXT) AS initial_metrics_json, CAST(final_metrics AS TEXT) AS final_metrics_json
FROM prompt_studio_optimizations
WHERE (CAST(:project_id AS BIGINT) IS NULL OR project_id = :project_id)
    AND (CAST(:status AS TEXT) IS NULL OR status = :status)
ORDER BY id DESC LIMIT :limit OFFSET :offset;

-- name: count_optimizations
-- How many there are on all pages.
SELECT COUNT(*) AS total FROM prompt_studio_optimizations
WHERE (CAST(:project_id AS BIGINT) IS NULL OR project_id = :project_id)
    AND (CAST(:status AS TEXT) IS NULL OR status = :status);

-- name: set_optimization_status
-- Says where an optimization is; it starts once, and an end has a time.
UPDATE prompt_studio_optimizations
SET status = :status, error_message = :error_message,
    started_at = CASE WHEN CAST(:running AS BOOLEAN) AND started_at IS NULL THEN ${stamp} ELSE started_at END,
    completed_at = CASE WHEN CAST(:over AS BOOLEAN) THEN ${stamp} END
WHERE id = :optimization_id
RETURNING *, CAST(optimization_config AS TEXT) AS optimization_config_json,
    CAST(initial_metrics AS TEXT) AS initial_metrics_json, CAST(final_metrics AS TEXT) AS final_metrics_json;

-- name: cancel_optimization
-- The optimization has been called off, unless it has ended; of a user's projects, if one is named.
UPDATE prompt_studio_optimizations
SET status = 'cancelled', error_message = COALESCE(:reason, error_message), completed_at = ${stamp}
WHERE id = :optimization_id AND status IN ('pending', 'running') -- impl: PS-ENTITIES-4
    AND (CAST(:user_id AS TEXT) IS NULL OR project_id = (
        SELECT project.id FROM prompt_studio_projects AS project
        WHERE project.id = prompt_studio_optimizations.project_id AND project.deleted = '0' AND project.user_id = :user_id -- impl: PS-ENTITIES-5
    ))
RETURNING *, CAST(optimization_config AS TEXT) AS optimization_config_json,
    CAST(initial_metrics AS TEXT) AS initial_metrics_json, CAST(final_metrics AS TEXT) AS final_metrics_json;

-- name: complete_optimization
-- The optimization has ended well, unless it was called off; what the caller does not know stays as it was.
UPDATE prompt_studio_optimizations
SET status = 'completed', error_message = NULL, completed_at = ${stamp},
    optimized_prompt_id = COALESCE(CAST(:optimized_prompt_id AS BIGINT), optimized_prompt_id),
    initial_metrics = COALESCE(:initial_metrics, initial_metrics),
    final_metrics = COALESCE(:final_metrics, final_metrics),
    improvement_percentage = COALESCE(CAST(:improvement_percentage AS DOUBLE PRECISION), improvement_percentage),
    iterations_completed = COALESCE(CAST(:iterations_completed AS BIGINT), iterations_completed),
    total_tokens = COALESCE(CAST(:total_tokens AS BIGINT), total_tokens),
    total_cost = COALESCE(CAST(:total_cost AS DOUBLE PRECISION), total_cost)
WHERE id = :optimization_id AND status <> 'cancelled' -- impl: PS-ENTITIES-4
RETURNING *, CAST(optimization_config AS TEXT) AS optimization_config_json,
    CAST(initial_metrics AS TEXT) AS initial_metrics_json, CAST(final_metrics AS TEXT) AS final_metrics_json;

-- name: record_iteration
-- Inserts what an optimization has tried, if it is there.
INSERT INTO prompt_studio_optimization_iterations (
    uuid, optimization_id, iteration_number, prompt_variant, metrics, tokens_used, cost, note, created_at
)
SELECT :uuid, id, CAST(:iteration_number AS BIGINT), :prompt_variant, :metrics, CAST(:tokens_used AS BIGINT),
    CAST(:cost AS DOUBLE PRECISION), :note, ${stamp}
FROM prompt_studio_optimizations WHERE id = :optimization_id
RETURNING *, CAST(prompt_variant AS TEXT) AS prompt_variant_json, CAST(metrics AS TEXT) AS metrics_json;

-- name: list_iterations
-- A page of what an optimization has tried, in its order.
SELECT *, CAST(prompt_variant AS TEXT) AS prompt_variant_json, CAST(metrics AS TEXT) AS metrics_json
FROM prompt_studio_optimization_iterations WHERE optimization_id = :optimization_id
ORDER BY iteration_number, id LIMIT :limit OFFSET :offset;

-- name: count_iterations
-- How many there are on all pages.
SELECT COUNT(*) AS total FROM prompt_studio_optimization_iterations WHERE optimization_id = :optimization_id;
