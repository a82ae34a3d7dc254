//! virtctl: hands on virtual machines, in a cluster and on this machine.

fn main() -> std::process::ExitCode {
    virtctl::main()
}
