//! The images tree is embedded in the binary: a file that is new there must make cargo build again.

fn main() {
    println!("cargo::rerun-if-changed=images");
}
