//! virtctl under the name by which kubectl finds it: `kubectl virt`.

fn main() -> std::process::ExitCode {
    virtctl::main()
}
