//! The `ringkv` program; everything is in `ringkv::cli`, which the Python wheel calls too.

fn main() -> std::process::ExitCode {
    // Statuses are 0 to 141, so nothing is cut off.
    std::process::ExitCode::from(ringkv::cli::main(std::env::args_os()) as u8)
}
