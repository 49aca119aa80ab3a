-- The statements that only SQLite has.

-- name: fail_best_exhausted_job
-- Only here because another database can do it in the statement that claims.
-- Fails the best expired job without an execution left, if no eligible job is better than it.
UPDATE prompt_studio_job_queue
SET revision = revision + 1,
    status = 'failed', completed_at = ${now}, error_message = 'lease expired, attempts exhausted',
    leased_until = NULL, lease_owner = NULL, closed_token = NULL, closed_by = NULL
WHERE id = (
        SELECT exhausted.id FROM (
            SELECT id, priority, created_at FROM prompt_studio_job_queue
            WHERE status = 'processing' AND leased_until <= ${now}
                AND executions >= execution_limit -- impl: PS-CONCURRENCY-8
                AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
            ORDER BY priority DESC, created_at, id LIMIT 1
        ) AS exhausted
        WHERE NOT EXISTS (
            SELECT 1 FROM (
                SELECT id, priority, created_at FROM prompt_studio_job_queue
                WHERE status = 'queued' AND available_at <= ${now}
                    AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
                ORDER BY priority DESC, created_at, id LIMIT 1
            ) AS eligible
            WHERE (-eligible.priority, eligible.created_at, eligible.id)
                < (-exhausted.priority, exhausted.created_at, exhausted.id)
        ) AND NOT EXISTS (
            SELECT 1 FROM (
                SELECT id, priority, created_at FROM prompt_studio_job_queue
                WHERE status = 'processing' AND leased_until <= ${now} AND executions < execution_limit
                    AND job_type IN (:job_type_1, :job_type_2, :job_type_3)
                ORDER BY priority DESC, created_at, id LIMIT 1
            ) AS eligible
            WHERE (-eligible.priority, eligible.created_at, eligible.id)
                < (-exhausted.priority, exhausted.created_at, exhausted.id)
        )
    )
    AND status = 'processing' AND leased_until <= ${now} AND executions >= execution_limit
RETURNING id;

