//! What is deployed: what docker says, against what cc-warm wrote down when it deployed.

use std::collections::BTreeMap;

use anyhow::anyhow;

use super::AbraDeployer;
use super::folder::Record;
use crate::deployer::swarm::{self, Labels, Service};
use crate::deployer::{DeployError, Deployment, Known, Observed, dotenv};
use crate::identity::{CommitId, Identity};
use crate::recipe::version::Version;
use crate::sys::untrusted::Untrusted;

impl AbraDeployer<'_> {
    pub(super) fn look(&self) -> Result<Observed, DeployError> {
        self.ready()?;
        let stack = self.stack_now()?;
        if stack.services.is_empty() {
            return Ok(Observed::Absent { has_data: !self.volumes_now()?.is_empty() });
        }
        let record = self.folder.read_record().map_err(DeployError::Failed)?;
        let ours = record.is_still(&stack.services);
        let since = ours.map(|mark| mark.at);
        Ok(Observed::Present(Deployment {
            what: self.identify(&stack.services, &record)?,
            generation: record.generation(&stack.services),
            state: swarm::convergence(&stack.services, &stack.tasks, since, self.clock.now()),
        }))
    }

    /// Which release `services` are.
    pub(super) fn identify(&self, services: &[Service], record: &Record) -> Result<Known, DeployError> {
        let stack = self.stack_name()?;
        let labels = swarm::labels(&stack, services);
        // The swarm may have put back what it took the place of: then the labels say so.
        if let (Some(mark), Some(labels)) = (record.is_still(services), &labels)
            && let Some(identity) =
                [Some(&mark.identity), mark.from.as_ref()].into_iter().flatten().find(|identity| says(labels, identity))
        {
            return Ok(Known::Yes(identity.clone()));
        }
        let Some(labels) = labels else {
            // A stop that was cut short may have left anything but the service that bears the label.
            if let Some(mark) = record.is_rest(services) {
                return Ok(Known::Yes(mark.identity.clone()));
            }
            if let Some(identity) = &record.under_way
                && self.is_half_made(services, identity)?
            {
                return Ok(Known::Yes(identity.clone()));
            }
            return Ok(unknown("no label", format!("no service bears the label `coop-cloud.{stack}.version`")));
        };
        // A deployment of ours that was cut short: it is one of two.
        let candidates = record.under_way.iter().chain(record.deployed.as_ref().map(|mark| &mark.identity));
        if record.under_way.is_some()
            && let Some(identity) = candidates.into_iter().find(|identity| says(&labels, identity))
        {
            return Ok(Known::Yes(identity.clone()));
        }
        let text = self.env_text().map_err(DeployError::Failed)?.unwrap_or_default();
        let published = self.mirror.published_offline();
        let commit_of = |version: &Version| {
            let published = published.as_ref().map_err(|error| anyhow!("{error:#}")).ok()?;
            published.versions.get(version).map(|found| found.commit.clone())
        };
        Ok(from_labels(&labels, dotenv::version(&text).as_deref(), &commit_of, &text))
    }

    /// Whether `services` may be what a deployment of `identity` got to before it was cut short: the service that bears the
    /// label need not be the first.
    fn is_half_made(&self, services: &[Service], identity: &Identity) -> Result<bool, DeployError> {
        // What was never prepared here was not deployed from here.
        let Ok(release) = self.release_of(identity) else { return Ok(false) };
        match self.compose(&release) {
            Ok(compose) => Ok(is_part_of(services, &self.stack_name()?, &compose.images_by_service())),
            Err(DeployError::Failed(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether each of `services` is one of `wanted`, by its name in the stack and its image.
fn is_part_of(services: &[Service], stack: &str, wanted: &BTreeMap<&str, &str>) -> bool {
    !services.is_empty()
        && services.iter().all(|service| {
            let short = service.name().strip_prefix(stack).and_then(|rest| rest.strip_prefix('_'));
            let image = short.and_then(|short| wanted.get(short).copied());
            image.is_some() && image == service.named_image()
        })
}

/// Whether the labels are those of a deployment of `identity`.
pub(super) fn says(labels: &Labels, identity: &Identity) -> bool {
    labels.version == identity.version.to_string()
        && labels.chaos.as_deref().is_none_or(|chaos| identity.commit.is_shortened_to(chaos))
}

fn unknown(label: &str, why: String) -> Known {
    Known::No { label: Untrusted::new(label), why }
}

/// What a deployment of somebody else is, from its labels and its `.env`.
fn from_labels(
    labels: &Labels,
    env_version: Option<&str>,
    commit_of: &dyn Fn(&Version) -> Option<CommitId>,
    env_text: &str,
) -> Known {
    let shown = match &labels.chaos {
        Some(chaos) => format!("{} at {chaos}", labels.version),
        None => labels.version.clone(),
    };
    let no = |why: String| unknown(&shown, why);
    let Ok(version) = labels.version.parse::<Version>() else {
        return no("its version label is no version".to_owned());
    };
    if labels.chaos.as_ref().is_some_and(|chaos| chaos.ends_with("+U")) {
        return no("it was deployed with changes that are in no commit".to_owned());
    }
    let Some(commit) = commit_of(&version) else {
        return no("the recipe publishes no such version".to_owned());
    };
    if let Some(chaos) = labels.chaos.as_deref().filter(|chaos| !commit.is_shortened_to(chaos)) {
        let chaos = Untrusted::new(chaos).terminal();
        return no(format!("it was deployed from commit {chaos}, and its tag is commit {}", commit.short()));
    }
    // The swarm that rolls a deployment back by itself puts the label back, and not the `.env`.
    let named = env_version.filter(|named| *named != labels.version && !commit.is_shortened_to(named));
    if let Some(named) = named {
        let named = Untrusted::new(named).terminal();
        return no(format!("its label says {}, and its `.env` says {named}", labels.version));
    }
    Known::Yes(Identity {
        version,
        commit,
        env: dotenv::effective(env_text).digest(),
        secrets: std::collections::BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::folder::{Mark, ServiceMark};
    use super::*;
    use crate::update::saga::samples::identity;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn judged(version: &str, chaos: Option<&str>, env: Option<&str>) -> Result<String, String> {
        let labels = Labels { version: version.to_owned(), chaos: chaos.map(str::to_owned) };
        let commit_of =
            |version: &Version| (version.to_string() == "1.2.0+5").then(|| COMMIT.parse::<CommitId>().unwrap());
        match from_labels(&labels, env, &commit_of, "TYPE=notes\n") {
            Known::Yes(identity) => Ok(identity.to_string()),
            Known::No { why, .. } => Err(why),
        }
    }

    #[test]
    fn is_known_where_label_commit_tag_and_env_agree() {
        let known = Ok("1.2.0+5 (commit 0123456789)".to_owned());
        for (chaos, env) in [
            (None, None),
            (None, Some("1.2.0+5")),
            (Some("01234567"), None),
            (Some("01234567"), Some("01234567")),
            (Some(COMMIT), Some("1.2.0+5")),
        ] {
            assert_eq!(judged("1.2.0+5", chaos, env), known, "{chaos:?} {env:?}");
        }
    }

    #[test]
    fn is_unknown_where_anything_disagrees() {
        for (version, chaos, env, why) in [
            ("latest", None, None, "no version"),
            ("1.3.0+5", None, None, "publishes no such version"),
            ("1.2.0+5", Some("01234567+U"), None, "in no commit"),
            ("1.2.0+5", Some("deadbeef"), None, "from commit deadbeef"),
            ("1.2.0+5", Some("0123"), None, "from commit 0123"),
            ("1.2.0+5", Some(""), None, "from commit"),
            ("1.2.0+5", None, Some("1.3.0+5"), "its `.env` says 1.3.0+5"),
            ("1.2.0+5", None, Some("deadbeef"), "its `.env` says deadbeef"),
        ] {
            let said = judged(version, chaos, env).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    fn service(name: &str, labelled: Option<&str>, image: &str) -> Service {
        let mut labels = serde_json::Map::new();
        labels.extend(labelled.map(|image| ("com.docker.stack.image".to_owned(), image.into())));
        let spec = serde_json::json!({
            "Name": name, "Labels": labels, "TaskTemplate": { "ContainerSpec": { "Image": image } },
        });
        Service { spec, ..Service::default() }
    }

    #[test]
    fn what_a_stop_left_of_our_deployment_is_told_by_ids_and_marks() {
        let db = Service { id: "1".to_owned(), ..service("login_db", None, "postgres:17") };
        let app = Service { id: "2".to_owned(), ..service("login_app", None, "notes:2") };
        let mark = |service: &Service| (service.id.clone(), ServiceMark { mark: service.mark(), before: None });
        let deployed = Mark {
            identity: identity("1.2.0+5"),
            from: None,
            at: jiff::Timestamp::UNIX_EPOCH,
            services: [mark(&db), mark(&app)].into(),
        };
        let mut record = Record::default();
        assert!(record.is_rest(std::slice::from_ref(&db)).is_none());
        record.deployed = Some(deployed);
        let generation = |record: &Record, services: &[&Service]| {
            record.generation(&services.iter().map(|&service| service.clone()).collect::<Vec<_>>())
        };
        let whole = generation(&record, &[&db, &app]);
        assert_ne!(generation(&record, &[&db]), whole, "without a stop of ours, somebody removed a service");
        let mut stopping = record.clone();
        stopping.stopping = true;
        assert_eq!(generation(&stopping, &[&db]), whole);
        let other = Service { id: "3".to_owned(), ..app.clone() };
        assert_ne!(generation(&stopping, &[&db, &other]), whole);
        assert!(record.is_rest(std::slice::from_ref(&db)).is_some());
        let made_anew = Service { id: "3".to_owned(), ..db.clone() };
        let changed = Service { id: "1".to_owned(), ..service("login_db", None, "postgres:18") };
        for other in [vec![made_anew], vec![changed.clone()], vec![app, changed], vec![]] {
            assert!(record.is_rest(&other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn what_a_deployment_of_ours_got_to_is_part_of_it() {
        let wanted = BTreeMap::from([("app", "notes:2"), ("db", "postgres:17")]);
        let db = || service("login_db", Some("postgres:17"), "postgres:17@sha256:0123");
        for (services, expected) in [
            (vec![db()], true),
            (vec![db(), service("login_app", None, "notes:2")], true),
            // Of the version before, or of somebody else's.
            (vec![service("login_db", Some("postgres:16"), "postgres:16@sha256:0123")], false),
            (vec![db(), service("login_app", None, "notes:1")], false),
            // It has no such service.
            (vec![db(), service("login_cache", Some("redis:7"), "redis:7")], false),
            (vec![service("db", Some("postgres:17"), "postgres:17")], false),
            (vec![service("loginx_db", Some("postgres:17"), "postgres:17")], false),
            (vec![], false),
            // Nothing is said of its image.
            (vec![service("login_db", None, "")], false),
        ] {
            assert_eq!(is_part_of(&services, "login", &wanted), expected, "{services:?}");
        }
    }
}
