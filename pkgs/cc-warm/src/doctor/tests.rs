//! What a person reads, and what it comes to.

use std::path::PathBuf;

use insta::assert_snapshot;

use super::*;
use crate::deployer::swarm::{Info, Node, NodeStatus, SwarmInfo};

fn now() -> Timestamp {
    "2026-03-06T03:40:00Z".parse().unwrap()
}

fn earlier(minutes: i64) -> Timestamp {
    now() - jiff::SignedDuration::from_mins(minutes)
}

/// A host with nothing wrong.
fn well() -> Facts {
    let swarm = SwarmInfo {
        node_id: "n".into(),
        local_node_state: "active".into(),
        control_available: true,
        error: String::new(),
    };
    Facts {
        config: "/etc/cc-warm/config.json".into(),
        state_dir: "/var/lib/ci-warm".into(),
        state: StateFolder::There { mode: 0o700, has_id: true, not_writable: None, foreign: None },
        now: now(),
        newest: Some((earlier(60), "the last run of `login`".into())),
        git: Some(Ok("git version 2.51.0".into())),
        swarm: Some(Swarm {
            info: Some(Ok(Info { swarm, server_version: "28.5.1".into(), ..Info::default() })),
            node: Some(Node { status: NodeStatus { state: "ready".into() }, ..Node::default() }),
            abra: Some(Ok("abra version 0.13.0-beta-06a57de".into())),
            one_file_system: Some(true),
            volumes: "/var/lib/docker/volumes".into(),
            ..Swarm::default()
        }),
        disks: vec![Disk { what: "the state folder (`/var/lib/ci-warm`)".into(), free: 80 << 30 }],
        reserve: 2 << 30,
        sinks: vec!["ops".into()],
        apps: vec![AppFacts {
            name: "login".into(),
            declared: true,
            env: Some(("/root/.abra/servers/default/login.example.org.env".into(), EnvFile::There)),
            probes: Some(Ok("http https://login.example.org/ answered 200".into())),
            ..AppFacts::default()
        }],
        ..Facts::default()
    }
}

fn judged(facts: &Facts) -> (String, Exit) {
    let checks = checks(facts);
    (text(&checks), exit(&checks))
}

#[test]
fn all_is_well() {
    let (text, exit) = judged(&well());
    assert_eq!(exit, Exit::Done);
    assert_snapshot!(text, @r"
    ok       configuration  `/etc/cc-warm/config.json`
    ok       state folder   `/var/lib/ci-warm`
    ok       clock          2026-03-06 03:40 UTC
    ok       git            git version 2.51.0
    ok       docker         28.5.1, its swarm is active, this node ready
    ok       abra           abra version 0.13.0-beta-06a57de
    ok       disk           81920 MiB free for the state folder (`/var/lib/ci-warm`), 2048 MiB of them in reserve
    ok       alerts         to ops
    ok       app login      http https://login.example.org/ answered 200

    all is well
    ");
}

#[test]
fn everything_that_is_wrong_has_what_mends_it() {
    let mut facts = well();
    facts.state = StateFolder::There {
        mode: 0o755,
        has_id: false,
        not_writable: Some("Read-only file system".into()),
        foreign: None,
    };
    facts.newest = Some((now() + jiff::SignedDuration::from_hours(9), "the last run of `login`".into()));
    facts.git = Some(Err("cannot start `git --version`".into()));
    if let Some(swarm) = &mut facts.swarm {
        if let Some(Ok(info)) = &mut swarm.info {
            info.live_restore_enabled = true;
            info.swarm.local_node_state = "inactive".into();
        }
        swarm.abra = Some(Ok("abra version 0.8.1-beta".into()));
        swarm.one_file_system = Some(false);
    }
    facts.disks[0].free = 1 << 30;
    facts.sinks.clear();
    facts.undelivered = vec![earlier(600), earlier(1)];
    facts.unreadable = vec!["`/var/lib/ci-warm/outbox/x.json` does not parse".into()];
    let login = facts.apps[0].clone();
    let path = |name: &str| PathBuf::from(format!("/root/.abra/servers/default/{name}.example.org.env"));
    facts.apps = vec![
        AppFacts {
            probes: Some(Err("http https://login.example.org/ answered 502, wanted 200".into())),
            ..login.clone()
        },
        AppFacts { name: "cloud".into(), journal: Some(("stuck".into(), true)), probes: None, ..login.clone() },
        AppFacts { name: "wiki".into(), journal: Some(("deploying".into(), false)), probes: None, ..login.clone() },
        AppFacts {
            name: "chat".into(),
            env: Some((path("chat"), EnvFile::Missing)),
            holder: Some("held by process 7 (`cc-warm update chat`)".into()),
            journal: Some(("deploying".into(), false)),
            no_probes: true,
            probes: None,
            ..login.clone()
        },
        AppFacts { name: "forge".into(), env: Some((path("forge"), EnvFile::NoServer)), probes: None, ..login.clone() },
        AppFacts {
            name: "gone".into(),
            declared: false,
            unusable: Some("the journal of app `gone` is damaged".into()),
            env: None,
            probes: None,
            ..login
        },
    ];
    let (text, exit) = judged(&facts);
    assert_eq!(exit, Exit::Failed);
    assert_snapshot!(text, @r"
    ok       configuration    `/etc/cc-warm/config.json`
    BAD      state folder     `/var/lib/ci-warm` cannot be written to: Read-only file system
                              mend: run it as root
    BAD      state folder     `/var/lib/ci-warm` has mode 0755: others may read secrets in it
                              mend: chmod 0700 /var/lib/ci-warm
    warning  state folder     `/var/lib/ci-warm` has no id yet: the first update makes it
    BAD      clock            it is 2026-03-06T03:40:00Z, but the last run of `login` says that it was 2026-03-06T12:40:00Z already
                              mend: timedatectl
    BAD      git              cannot start `git --version`
                              mend: install git, or put it into the units' `path`
    waiting  docker           this docker is not part of a swarm
                              mend: docker swarm init
    BAD      live-restore     live-restore is on: a swarm cannot have that
                              mend: virtualisation.docker.liveRestore = false
    warning  abra             abra version 0.8.1-beta: 0.10 and later are known to work
    warning  one file system  `/var/lib/docker/volumes` and `/var/lib/ci-warm` are two: snapshots and restores copy every byte instead of sharing it, and take that much longer and more room
                              mend: services.ccWarm.stateDir, to a folder on the file system of docker's data-root
    BAD      disk             1024 MiB free for the state folder (`/var/lib/ci-warm`), 2048 MiB of them in reserve
                              mend: free some space, or lower `services.ccWarm.disk.reserve`
    BAD      alerts           no sink is configured: nobody is told of anything
                              mend: services.ccWarm.alerts.<name>, then `cc-warm alert test`
    BAD      alerts           2 not delivered yet, the oldest of 2026-03-05T17:40:00Z
                              mend: cc-warm alert deliver
    BAD      alerts           `/var/lib/ci-warm/outbox/x.json` does not parse
    BAD      app login        unhealthy, so it is not updated: http https://login.example.org/ answered 502, wanted 200
                              mend: look into its logs; where it is well, services.ccWarm.apps.login.health.probes asks the wrong thing
    BAD      app cloud        it is stuck, until you act
                              mend: cc-warm status cloud
    BAD      app wiki         an operation was cut short at `deploying`
                              mend: cc-warm recover wiki
    warning  app chat         busy: held by process 7 (`cc-warm update chat`)
    BAD      app chat         `/root/.abra/servers/default/chat.example.org.env` is gone
                              mend: bring it back from your backup
    warning  app chat         it has no probe: only the swarm says whether it is healthy
                              mend: services.ccWarm.apps.chat.health.probes
    BAD      app forge        abra knows no such server: there is no folder for `/root/.abra/servers/default/forge.example.org.env`
                              mend: abra server add --local, or services.ccWarm.serversDir
    BAD      app gone         the journal of app `gone` is damaged
                              mend: cc-warm status gone

    15 bad, 1 waiting, 5 warning(s)
    ");
    let without: Vec<Check> =
        checks(&facts).into_iter().filter(|check| check.level == Level::Bad && check.mend.is_none()).collect();
    assert!(without.iter().all(|check| check.found.contains("does not parse")), "{without:?}");
}

#[test]
fn an_env_that_an_update_could_not_write_is_bad() {
    let mut facts = well();
    facts.apps[0].env.as_mut().unwrap().1 = EnvFile::ReadOnly("/srv/infra/servers/default".into());
    let (text, exit) = judged(&facts);
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("its update may not write to `/srv/infra/servers/default`"), "{text}");
    assert!(text.contains("systemd.services.cc-warm-update-login.serviceConfig.ReadWritePaths"), "{text}");
}

#[test]
fn a_docker_that_does_not_answer_now_is_waited_for_and_nothing_bad() {
    let mut facts = well();
    facts.apps[0].probes = None;
    let swarm = facts.swarm.as_mut().unwrap();
    (swarm.info, swarm.node, swarm.one_file_system) =
        (Some(Err("docker does not answer: Cannot connect".into())), None, None);
    let (text, exit) = judged(&facts);
    assert_eq!(exit, Exit::NotReady);
    assert!(text.contains("waiting  docker") && text.contains("systemctl status docker"), "{text}");
}

#[test]
fn podman_and_a_configuration_that_cannot_be_used_end_the_looking() {
    let mut facts = well();
    facts.swarm.as_mut().unwrap().is_podman = true;
    assert!(judged(&facts).0.contains("virtualisation.podman.dockerCompat = false"));
    facts.config_error = Some("`apps`: unknown field".into());
    let (text, exit) = judged(&facts);
    assert_eq!((exit, checks(&facts).len()), (Exit::Failed, 1));
    assert!(text.contains("cc-warm check-config --config /etc/cc-warm/config.json"), "{text}");
}

#[test]
fn a_folder_that_is_not_mounted_is_said_first() {
    let mut facts = well();
    let why = "the state folder is empty, but `login` runs from it: its file system is not mounted; nothing was done";
    facts.state = StateFolder::There { mode: 0o700, has_id: false, not_writable: None, foreign: Some(why.into()) };
    let (text, exit) = judged(&facts);
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("findmnt --target /var/lib/ci-warm"), "{text}");
    facts.state = StateFolder::Missing;
    assert_eq!(judged(&facts).1, Exit::Done);
}

#[test]
fn knows_versions_of_abra_that_are_too_old() {
    for (text, old) in [
        ("abra version 0.13.0-beta-06a57de", false),
        ("abra version 0.10.0", false),
        ("abra version 0.9.0-beta", true),
        ("abra version 1.0.0", false),
        ("something else", false),
    ] {
        assert_eq!(is_old(text), old, "{text}");
    }
}

#[test]
fn a_known_good_that_is_damaged_is_bad_though_the_app_is_healthy() {
    let mut facts = well();
    facts.apps[0].damaged = Some("its known-good, snapshot 3f, is damaged".into());
    let (text, exit) = judged(&facts);
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("BAD      app login"), "{text}");
    assert!(
        text.contains("mend: cc-warm verify login says what; while it is healthy: cc-warm snapshot login"),
        "{text}"
    );
}
