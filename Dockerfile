# One image for data pods, operator and command line. CI here has no Docker and does not build it: the tests
# make the same image from files with tests/kube/images, so keep the two alike.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked -p registry -p registry-operator -p registryctl

# glibc, libgcc and nothing to log in to. User 65532 is "nonroot" there.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/registry /source/target/release/registry-operator /source/target/release/registryctl /bin/
USER 65532:65532
EXPOSE 8080 9080 9180
ENTRYPOINT ["/bin/registry"]
