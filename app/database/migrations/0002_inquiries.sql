CREATE TABLE inquiries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    phone text,
    message text NOT NULL,
    arrival date,
    departure date,
    party_size integer NOT NULL CHECK (party_size > 0),
    -- The retry of a request carries the same key; the digest tells a retry from another request under that key.
    idempotency_key text UNIQUE,
    request_digest text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (departure >= arrival)
);
