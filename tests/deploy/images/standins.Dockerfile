# Test only: the programs of the compose file from Debian's packages, for machines that can pull no image.
# One image for all of them; tests/deploy/compose.standin.yaml says which service is which.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# The release's own versions, whichever they are; and the directories as the real images own them.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
       postgresql redis-server prometheus prometheus-alertmanager \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/* \
    && install --directory --owner prometheus /prometheus /alertmanager
COPY postgres.sh /usr/local/bin/standin-postgres
