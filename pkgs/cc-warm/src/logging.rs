//! What is logged, on stderr: warnings and errors; more with `-v` or `CC_WARM_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `verbose`: 0 warnings, 1 steps, 2 everything.
pub fn start(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "cc_warm=debug,info",
    };
    let filter = EnvFilter::try_from_env("CC_WARM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // A second call (in tests) changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        // It would do so with `eprintln!`, which panics where stderr is gone.
        .log_internal_errors(false)
        .try_init();
}
