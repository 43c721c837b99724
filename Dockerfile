# The image: one static binary and nothing else.
#
#   docker build -t handfast .
#
# builds it from source. With the static binary at hand, nothing is pulled:
#
#   make static && install -D target/*/release/handfast dist/handfast
#   docker build -t handfast --build-arg BINARY=context --build-arg PREBUILT=dist/handfast .

# Where the binary comes from: `build` or `context`.
ARG BINARY=build

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --profile dist --target "$(rustc --print host-tuple)" \
    && cp "target/$(rustc --print host-tuple)/dist/handfast" /handfast

FROM scratch AS context
# The binary in the build context.
ARG PREBUILT=dist/handfast
COPY ${PREBUILT} /handfast

FROM ${BINARY} AS binary

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Handfast" \
      org.opencontainers.image.description="A Kubernetes ingress controller that lets no TLS handshake fail silently" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=binary --chmod=0755 /handfast /handfast
# Numbers, so that the kubelet sees that it is not root.
USER 65532:65532
EXPOSE 8080 8443 10254
ENTRYPOINT ["/handfast"]
CMD ["run"]
