# syntax=docker/dockerfile:1
# The image of auditwatch: built for x86-64 and arm64, a distroless final stage without a shell, a numeric user, and a file
# system that may be read-only. docs/containers.md says how to build, pin and check it.
#
#     docker build -t auditwatch .
#     docker buildx build --platform linux/amd64,linux/arm64 -t auditwatch .

# Base images are pinned by tag, so that fixes of the base reach a rebuild. A release pins them by digest:
#     --build-arg RUNTIME_BASE=gcr.io/distroless/cc-debian12:nonroot@sha256:...
# Debian 12 on both sides: what was linked against its glibc runs on it.
ARG BUILD_BASE=docker.io/library/rust:1.95-bookworm
# cc and not static: the binary needs glibc and libgcc, and glibc's own resolver (search domains, ndots, /etc/hosts) is what
# name lookups in a cluster rely on. It also brings the TLS roots, /etc/passwd and /etc/nsswitch.conf; scratch brings none.
ARG RUNTIME_BASE=gcr.io/distroless/cc-debian12:nonroot

# On the machine that builds, for the machine that is built for: a compiler under emulation takes an hour.
FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS build
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /src

# The C cross-compiler, only when it is needed. Its version is that of the base's Debian release; $cross is two words.
# hadolint ignore=DL3008,SC2086
RUN if [ "${TARGETARCH:-$BUILDARCH}" != "$BUILDARCH" ]; then \
        case "$TARGETARCH" in \
            arm64) cross="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
            amd64) cross="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
            *) echo "no cross-compiler is known for $TARGETARCH" >&2; exit 1 ;; \
        esac; \
        apt-get update && apt-get install -y --no-install-recommends $cross && rm -rf /var/lib/apt/lists/*; \
    fi

COPY Cargo.toml Cargo.lock ./
COPY src src

# Profile dist (link-time optimisation, stripped) is used here alone. The caches hold what cargo downloads and builds from one
# build to the next, one target folder for each architecture; so the binary is copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,id=auditwatch-target-${TARGETARCH},sharing=locked \
    case "${TARGETARCH:-$BUILDARCH}" in \
        arm64) triple=aarch64-unknown-linux-gnu ;; \
        amd64) triple=x86_64-unknown-linux-gnu ;; \
        *) echo "no target is known for this architecture" >&2; exit 1 ;; \
    esac; \
    rustup target add "$triple" && \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    cargo build --locked --profile dist --bin auditwatch --target "$triple" --target-dir /target && \
    install -D -m 0755 "/target/$triple/dist/auditwatch" /out/auditwatch

# A stage of its own, so that it can be built around a binary that is already there:
#     docker buildx build --target runtime --build-context build=DIR .      with the binary in DIR/out/auditwatch
FROM ${RUNTIME_BASE} AS runtime

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="auditwatch" \
      org.opencontainers.image.description="Finds unauthenticated addresses that scan a Kubernetes API server: audit logs in over OTLP, findings out to Splunk HEC" \
      org.opencontainers.image.source="https://github.com/auditwatch/auditwatch" \
      org.opencontainers.image.documentation="https://github.com/auditwatch/auditwatch/blob/main/docs/containers.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"

COPY --from=build /out/auditwatch /auditwatch
COPY LICENSE NOTICE /licenses/
COPY otel-config/minimal.yaml /etc/auditwatch/config.yaml

# What config.yaml asks for: inside a container, loopback would be heard by nobody.
ENV AUDITWATCH_OTLP_ENDPOINT=0.0.0.0:4317

# A number, for runAsNonRoot of Kubernetes cannot check a name. It is distroless's own nonroot.
USER 65532:65532
EXPOSE 4317 4318 8888 13133

# Asks the health_check extension at 127.0.0.1:13133; there is no shell and no curl to do it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/auditwatch", "health"]

ENTRYPOINT ["/auditwatch"]
CMD ["--config", "/etc/auditwatch/config.yaml"]
