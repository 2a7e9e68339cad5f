"""PostgreSQL through asyncpg: the pool, the migrations, and the SQL of each resource."""
