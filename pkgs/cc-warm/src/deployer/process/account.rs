//! As whom an app runs when cc-warm is root: never as root.
//!
//! Without `deployer.process.user`, an app gets a number of its own from 1879048192 (`0x7000_0000`) on, derived from its
//! name and the state folder: systemd leaves these to the administrator, and no container tool hands them out. Where a container maps fewer
//! numbers than that, it is one from 20000 to 59999.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::record::Account;
use crate::config::names::AppName;
use crate::error::{Exit, Problem};

const FIRST: u32 = 0x7000_0000;
const COUNT: u32 = 0x0fff_ffff;
const SMALL: (u32, u32) = (20_000, 40_000);

/// The account of `app`; `None` if cc-warm is not root, so that everything runs as cc-warm's user.
pub(super) fn of(state: &Path, app: &AppName, user: Option<&str>) -> Result<Option<Account>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"));
    let account = match user {
        None => derive(state, app, &read("/proc/self/uid_map")?, &read("/proc/self/gid_map")?),
        Some(user) => find(user, &std::fs::read_to_string("/etc/passwd").unwrap_or_default()),
    };
    let account = account.map_err(|error| {
        Problem::new(format!("app `{app}` has no user to run as; nothing was touched"))
            .exit(Exit::Usage)
            .hint(format!("set `deployer.process.user` of app `{app}` to an existing user or a number, not root"))
            .because(error)
    })?;
    Ok(Some(account))
}

fn derive(state: &Path, app: &AppName, uids: &str, gids: &str) -> Result<Account> {
    let number = number(state, app);
    let candidates = [FIRST + number % COUNT, SMALL.0 + number % SMALL.1];
    match candidates.into_iter().find(|&id| is_mapped(id, uids) && is_mapped(id, gids)) {
        Some(id) => Ok(Account { uid: id, gid: id }),
        None => bail!("this container maps neither of the user numbers {} and {}", candidates[0], candidates[1]),
    }
}

/// Whether `account` is the number that `app` of this state folder alone has.
pub(super) fn is_its_own(state: &Path, app: &AppName, account: Account) -> bool {
    account.uid == FIRST + number(state, app) % COUNT
}

/// From the state folder, too: an app of another one (a sandbox) must never be taken for this one's.
fn number(state: &Path, app: &AppName) -> u32 {
    let hash = blake3::hash(state.join(app.as_str()).as_os_str().as_encoded_bytes());
    hash.as_bytes()[..4].iter().fold(0, |number, &byte| (number << 8) | u32::from(byte))
}

/// `map` is `/proc/self/uid_map`: inside, outside, count.
fn is_mapped(id: u32, map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), _, Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next()) else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

/// `user` is a name or a number, `passwd` the content of `/etc/passwd`.
fn find(user: &str, passwd: &str) -> Result<Account> {
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (name == user || number == Some(uid)).then_some(Account { uid, gid })
    });
    let account = match (entry, number) {
        (Some(account), _) => account,
        (None, Some(id)) => Account { uid: id, gid: id },
        (None, None) => bail!("there is no user `{user}`"),
    };
    ensure!(account.uid != 0 && account.gid != 0, "user `{user}` is root, or in root's group");
    Ok(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "         0          0 4294967295\n";

    #[test]
    fn each_app_has_a_number_of_its_own_that_nobody_else_hands_out() {
        let state = Path::new("/var/lib/ci-warm");
        let of = |state, name: &str| derive(Path::new(state), &name.parse().unwrap(), WHOLE, WHOLE).unwrap().uid;
        assert_eq!(of("/a", "login"), of("/a", "login"));
        assert_ne!(of("/a", "login"), of("/a", "proxy"));
        assert_ne!(of("/a", "login"), of("/b", "login"), "a sandbox's app is not the host's");
        assert!((FIRST..0x7fff_ffff).contains(&of("/a", "login")));
        let small = "0 100000 65536\n";
        let inside = derive(state, &"login".parse().unwrap(), small, small).unwrap();
        assert!((20_000..60_000).contains(&inside.uid));
        derive(state, &"login".parse().unwrap(), WHOLE, "0 1000 1\n").unwrap_err();
    }

    #[test]
    fn finds_users_and_refuses_root() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:www:/var/www:/bin/false\nbad line\n";
        assert_eq!(find("web", passwd).unwrap(), Account { uid: 33, gid: 34 });
        assert_eq!(find("33", passwd).unwrap(), Account { uid: 33, gid: 34 });
        assert_eq!(find("4000", passwd).unwrap(), Account { uid: 4000, gid: 4000 });
        for bad in ["root", "0", "nobody-here", ""] {
            find(bad, passwd).unwrap_err();
        }
    }
}
