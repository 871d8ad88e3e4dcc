//! A machine of the test driver as a program of its own, for this crate's tests; `sampan __fake-machine DIR` is the same.

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os()
        .nth(2)
        .ok_or_else(|| std::io::Error::other("usage: … __fake-machine DIR"))?;
    sampan_driver_fake::run_machine(dir.as_ref())
}
