//! Named fault points, compiled out of releases (feature `fault-points`).
//!
//! `CC_WARM_FAULT` holds rules, separated by commas, each `<point>[#<n>]=<action>`: at the n-th time (1 by default, `*`:
//! each time) that the point is reached, do the action. `<point>` may end in `*`. Actions: `kill` (SIGKILL to this
//! process), `fail` (an error), `enospc`, `eio` (an error of that kind), `hang` (until killed), `stop` (SIGSTOP to this
//! process: whoever watches does something, and lets it go on).

#[cfg(not(feature = "fault-points"))]
use std::io;

/// Passes the point called `name`; an error if a rule says so. Does nothing in a release.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "must vanish from releases")]
pub fn point(_name: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "fault-points")]
pub use armed::point;

#[cfg(feature = "fault-points")]
mod armed {
    use std::collections::HashMap;
    use std::io;
    use std::sync::{LazyLock, Mutex, PoisonError};

    struct Rule {
        pattern: String,
        /// `None`: each time.
        nth: Option<u32>,
        action: String,
    }

    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let text = std::env::var("CC_WARM_FAULT").unwrap_or_default();
        text.split(',').filter(|rule| !rule.is_empty()).map(parse).collect()
    });
    static REACHED: LazyLock<Mutex<HashMap<usize, u32>>> = LazyLock::new(Mutex::default);

    #[expect(clippy::expect_used, reason = "a test with a mistyped rule must not pass")]
    fn parse(rule: &str) -> Rule {
        let (point, action) = rule.split_once('=').expect("CC_WARM_FAULT: <point>[#<n>]=<action>");
        let (pattern, nth) = point.split_once('#').unwrap_or((point, "1"));
        Rule {
            pattern: pattern.to_owned(),
            nth: (nth != "*").then(|| nth.parse().expect("CC_WARM_FAULT: #<n> is a number or `*`")),
            action: action.to_owned(),
        }
    }

    /// Passes the point called `name`; an error if a rule says so.
    pub fn point(name: &str) -> io::Result<()> {
        if let Ok(path) = std::env::var("CC_WARM_FAULT_TRACE") {
            use std::io::Write;
            let _ = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                // One write, or the lines of two threads run into each other.
                .and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
        }
        // Every rule counts, whatever an earlier one does.
        let due: Vec<&str> = RULES
            .iter()
            .enumerate()
            .filter(|(_, rule)| match rule.pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => rule.pattern == name,
            })
            .filter(|(index, rule)| {
                let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
                let count = reached.entry(*index).or_default();
                *count += 1;
                rule.nth.is_none_or(|nth| nth == *count)
            })
            .map(|(_, rule)| rule.action.as_str())
            .collect();
        due.into_iter().try_for_each(|action| act(action, name))
    }

    fn act(action: &str, name: &str) -> io::Result<()> {
        match action {
            "kill" => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                Ok(())
            }
            "stop" => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
                Ok(())
            }
            "fail" => Err(io::Error::other(format!("fault point `{name}`"))),
            "enospc" => Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())),
            "eio" => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
            "hang" => loop {
                std::thread::park();
            },
            other => Err(io::Error::other(format!("CC_WARM_FAULT: unknown action `{other}` at `{name}`"))),
        }
    }
}
