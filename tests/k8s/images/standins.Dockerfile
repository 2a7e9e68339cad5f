# Test only: PostgreSQL and Redis for k8s/components/datastores, from the image that tests/deploy/images/build.sh makes of
# system packages. It has the official images' user number, and starts PostgreSQL unless it is told to start Redis.
#
#   docker build -t baliblissed-test/k8s-standins:1 - < tests/k8s/images/standins.Dockerfile
#   K8S_POSTGRES_IMAGE=baliblissed-test/k8s-standins:1 K8S_REDIS_IMAGE=baliblissed-test/k8s-standins:1 make test-k8s
ARG BASE_IMAGE=baliblissed-test/standins:1
FROM ${BASE_IMAGE}
RUN groupmod --gid 999 postgres && usermod --uid 999 postgres
USER 999:999
ENTRYPOINT ["standin-postgres"]
CMD ["postgres"]
