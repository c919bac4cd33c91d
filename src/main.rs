//! The binary: everything is in the library, and only this file exits.

fn main() -> std::process::ExitCode {
    esker::cli::main()
}
