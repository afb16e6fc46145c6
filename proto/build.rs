//! Generates messages, clients and servers from the proto files, without protoc.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;
use tonic_build::manual::{Method, Service};

const FILES: [&str; 6] = [
    "registry/v1/types.proto",
    "registry/v1/registry.proto",
    "registry/v1/discovery.proto",
    "registry/v1/cluster.proto",
    "registry/internal/v1/peer.proto",
    "registry/internal/v1/admin.proto",
];

const CODEC: &str = "crate::codec::Codec";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=registry");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, ["."])?;
    std::fs::write(out.join("all.bin"), descriptors.encode_to_vec())?;
    let public = protox::compile(FILES.iter().filter(|file| !file.contains("internal")), ["."])?;
    std::fs::write(out.join("public.bin"), public.encode_to_vec())?;

    tonic_prost_build::configure().codec_path(CODEC).bytes(".").btree_map(".").compile_fds(descriptors)?;

    // A second server of the same service whose answers carry submessages that are encoded already.
    tonic_build::manual::Builder::new().build_client(false).compile(&[raw_discovery()]);
    Ok(())
}

fn raw_discovery() -> Service {
    let method = |name: &str, route: &str, input: &str, output: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::v1::{input}"))
            .output_type(output)
            .codec_path(CODEC)
    };
    Service::builder()
        .name("DiscoveryService")
        .package("registry.v1")
        .comment("Finds instances and tells of their changes; answers are joined from encoded parts.")
        .method(
            method("discover", "Discover", "ServiceDiscoveryRequest", "crate::raw::ServiceDiscoveryResponse")
                .build(),
        )
        .method(
            method("list_services", "ListServices", "ListServicesRequest", "crate::v1::ListServicesResponse")
                .build(),
        )
        .method(
            method("watch", "Watch", "WatchRequest", "crate::raw::WatchResponse").server_streaming().build(),
        )
        .build()
}
