# syntax=docker/dockerfile:1
# The image of auditwatch, for x86-64 and arm64: a distroless final stage without a shell, a numeric user, and a file
# system that may be read-only. docs/containers.md says how to build, pin and check it.
#
#     docker build -t auditwatch .
#     docker buildx build --platform linux/amd64,linux/arm64 -t auditwatch .

# Base images are pinned by tag, so that a rebuild gets the fixes of the base. A release pins them by digest:
#     --build-arg RUNTIME_BASE=gcr.io/distroless/cc-debian12:nonroot@sha256:...
# Debian 12 in both stages, so that the binary runs with the glibc that it was linked against.
ARG BUILD_BASE=docker.io/library/rust:1.95-bookworm
# cc and not static: the binary needs glibc and libgcc, and name lookups in a cluster need the resolver of glibc (search
# domains, ndots, /etc/hosts). cc also has the TLS roots, /etc/passwd and /etc/nsswitch.conf. scratch has none of them.
ARG RUNTIME_BASE=gcr.io/distroless/cc-debian12:nonroot

# This stage runs on the architecture of the build machine and cross-compiles: a compiler under emulation takes an hour.
FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS build
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /src

# The C cross-compiler, only if it is needed. The Debian release of the base sets its version. $cross is two words.
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
COPY rules rules
# A member of the workspace, which Cargo wants to see. It is not built.
COPY load load

# Only images and releases use the profile dist (link-time optimisation, stripped). The caches keep the downloads and
# results of cargo between builds, with one target folder for each architecture. They exist only during this step, so it
# also copies the binary out.
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

# A separate stage, so that it can be built from an existing binary in DIR/out/auditwatch:
#     docker buildx build --target runtime --build-context build=DIR .
FROM ${RUNTIME_BASE} AS runtime

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="auditwatch" \
      org.opencontainers.image.description="Detects unauthenticated scans of a Kubernetes API server" \
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

# config.yaml reads this variable. Inside a container, no sender could reach loopback.
ENV AUDITWATCH_OTLP_ENDPOINT=0.0.0.0:4317

# A number, because runAsNonRoot of Kubernetes cannot check a name. It is the user nonroot of distroless.
USER 65532:65532
EXPOSE 4317 4318 8888 13133

# Asks the health_check extension at 127.0.0.1:13133. There is no shell and no curl in the image.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/auditwatch", "health"]

ENTRYPOINT ["/auditwatch"]
CMD ["--config", "/etc/auditwatch/config.yaml"]
