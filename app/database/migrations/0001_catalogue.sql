-- array_to_string is only stable in PostgreSQL, though for text arrays it depends on nothing; a generated column
-- needs it immutable.
CREATE FUNCTION words_of(words text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_to_string(words, ' ');

CREATE TABLE destinations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    regency text NOT NULL,
    category text NOT NULL,
    description text NOT NULL,
    latitude double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
    longitude double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
    entrance_fee_idr integer CHECK (entrance_fee_idr >= 0),
    opens time,
    closes time,
    visit_minutes integer NOT NULL CHECK (visit_minutes > 0),
    best_months smallint[] NOT NULL,
    tags text[] NOT NULL,
    -- Sum and count change with each review in its transaction, so the average is right under concurrent writes.
    rating_sum bigint NOT NULL DEFAULT 0,
    rating_count bigint NOT NULL DEFAULT 0,
    search tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('english', name), 'A')
        || setweight(to_tsvector('english', words_of(tags) || ' ' || category || ' ' || regency), 'B')
        || setweight(to_tsvector('english', description), 'C')
    ) STORED
);

CREATE INDEX destinations_search ON destinations USING gin (search);
CREATE INDEX destinations_tags ON destinations USING gin (tags);

CREATE TABLE reviews (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination_id bigint NOT NULL REFERENCES destinations ON DELETE CASCADE,
    rating smallint NOT NULL CHECK (rating BETWEEN 1 AND 5),
    text text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX reviews_newest ON reviews (destination_id, id DESC);
