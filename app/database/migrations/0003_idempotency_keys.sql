-- Keys of POST /api/v1/inquiries: one row for each key and caller, deleted once it has expired.
CREATE TABLE idempotency_keys (
    key text NOT NULL,
    -- SHA-256 of the key and the client's address, so that no address is stored.
    caller text NOT NULL,
    -- Tells a retry from another request under the same key.
    request_digest text NOT NULL,
    inquiry_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key, caller)
);

-- The expired keys are found at its beginning, without reading the table.
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- The keys that inquiries have are not copied: nothing tells whose they are. During a rolling update workers of the
-- version before still write both columns, so they and the constraint on them stay.
ALTER TABLE inquiries ALTER COLUMN request_digest DROP NOT NULL;
