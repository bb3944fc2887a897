//! Compiles this crate anew when the dashboard's page has been built anew; `src/dashboard/page.rs` embeds it.

fn main() {
    println!("cargo::rerun-if-changed=../../dashboard/dist");
}
