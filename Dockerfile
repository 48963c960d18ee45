# headcount as an image: docker build -t headcount .
#
# The last stage has a C library, certificates and the program, and nothing else: no shell, no package manager. Hence no
# HEALTHCHECK either: there is nothing in it that could ask. Orchestrators ask GET /readyz and /livez from outside.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# What is built from, and nothing that changes without being built.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY examples examples
COPY migrations migrations
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin headcount && \
    cp target/release/headcount /headcount

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="headcount" \
      org.opencontainers.image.description="Presence: which users are online, in which room, with which status, right now." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /headcount /usr/local/bin/headcount
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
# In a container the outside is whoever the container's network lets in.
ENV HEADCOUNT_LISTEN=0.0.0.0:8080 \
    HEADCOUNT_LOG_FORMAT=json
EXPOSE 8080
# SIGTERM (the default) drains within 5 s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/headcount"]
CMD ["serve"]
