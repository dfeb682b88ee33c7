//! Compiles the contracts with protox, so that no `protoc` is needed.

use std::error::Error;

use prost::Message;

const FILES: [&str; 9] = [
    "headroom/v1/signals.proto",
    "headroom/v1/forecasts.proto",
    "headroom/v1/plans.proto",
    "headroom/v1/actions.proto",
    "headroom/v1/governance.proto",
    "headroom/v1/audit.proto",
    "headroom/v1/processing.proto",
    "headroom/v1/services.proto",
    "externalscaler/externalscaler.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        .compile_fds(descriptors.clone())?;
    std::fs::write(out.join("headroom.v1.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
