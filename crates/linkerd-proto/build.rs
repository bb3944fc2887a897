//! Generates messages, clients and servers from every file in `proto/`, without `protoc`.

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(&files, [&folder])?;
    tonic_prost_build::configure()
        .bytes(".")
        // Sorted maps make equal messages encode to equal bytes.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
