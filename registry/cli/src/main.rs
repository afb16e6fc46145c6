//! The program `registryctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    registryctl::run(std::env::args_os().skip(1), "registryctl")
}
