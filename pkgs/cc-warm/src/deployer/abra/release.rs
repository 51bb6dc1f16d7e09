//! What a release is on this host: its code, its environment, its rendering.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::folder::{self, Mark, Needs, ServiceMark};
use super::{AbraDeployer, environment_files};
use crate::deployer::compose::{self, Compose};
use crate::deployer::docker_api::Objects;
use crate::deployer::swarm::Service;
use crate::deployer::{DeployError, Known, Release, Rendering, dotenv, outside};
use crate::identity::{Env, EnvDigest, Identity};
use crate::sys::command::CommandError;
use crate::sys::durable;

/// Variables that are docker's and not the recipe's.
const RESERVED: &[&str] = &[
    "PATH",
    "HOME",
    "LC_ALL",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
];

impl AbraDeployer<'_> {
    /// The files of a release, for reading.
    fn code(&self, release: &Release) -> Result<PathBuf> {
        let dir = self.folder.code(&release.commit);
        if !dir.is_dir() {
            durable::make_dir(&self.folder.codes())?;
            let exported = self.mirror.export(&release.commit, &dir);
            // Somebody else may have been faster.
            exported.or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) })?;
        }
        Ok(dir)
    }

    /// What docker makes of the release's compose files.
    pub(super) fn compose(&self, release: &Release) -> Result<Compose, DeployError> {
        self.rendered(release, |_, _, _| Ok(()))
    }

    /// The same, of code that docker might never have read here: what it names is looked at before docker opens it. What
    /// was prepared is not asked again, so that the way back is free.
    pub(super) fn new_compose(&self, release: &Release) -> Result<Compose, DeployError> {
        self.rendered(release, environment_files::can_be_read)
    }

    fn rendered(
        &self,
        release: &Release,
        check: impl Fn(&[PathBuf], &Path, &BTreeMap<String, String>) -> Result<()>,
    ) -> Result<Compose, DeployError> {
        let stack = self.stack_name()?;
        let question = || -> Result<_> {
            let code = self.code(release)?;
            let mut variables = variables(&code, release)?;
            variables.insert("STACK_NAME".to_owned(), stack);
            variables.entry("DOMAIN".to_owned()).or_insert_with(|| self.domain().to_owned());
            let files = compose_files(&code, variables.get("COMPOSE_FILE").map(String::as_str))?;
            check(&files, &code, &variables)?;
            let mut question = self.docker.rendered(&files).cwd(&code);
            for (key, value) in variables.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str())) {
                question = question.env(key, value);
            }
            Ok(question)
        };
        let question = question().map_err(DeployError::Failed)?;
        match question.run_ok() {
            Ok(output) => Compose::parse(&String::from_utf8_lossy(&output.stdout)).map_err(DeployError::Failed),
            // It needs no daemon: what it says is about the files.
            Err(error @ CommandError::Failed { .. }) => Err(DeployError::Failed(
                anyhow::Error::from(error).context(format!("the compose files of {} are not right", release.version)),
            )),
            Err(error) => Err(DeployError::not_ready(error)),
        }
    }

    pub(super) fn rendering(&self, release: &Release) -> Result<Rendering, DeployError> {
        self.ready()?;
        let compose = self.new_compose(release)?;
        let sample = || -> Result<BTreeSet<String>> {
            let sample = small_file(&self.code(release)?.join(".env.sample"))?.unwrap_or_default();
            Ok(dotenv::required(&sample).map(str::to_owned).collect())
        };
        let required_env = sample().map_err(DeployError::Failed)?;
        let (_, missing_secrets) = self.missing_secrets(&compose, &self.services_now()?)?;
        let mut rendering = Rendering { required_env, missing_secrets, ..compose.rendering(&self.stack_name()?) };
        rendering.binds.extend(self.read_from_outside(release, &compose).map_err(DeployError::Failed)?);
        Ok(rendering)
    }

    /// What docker's program reads of the host for it, outside of the recipe.
    fn read_from_outside(&self, release: &Release, compose: &Compose) -> Result<BTreeSet<String>> {
        let code = self.code(release)?;
        let mut all = outside::files(compose.root(), &code);
        all.extend(outside::links(&code)?);
        Ok(all)
    }

    /// Secrets that are not there: those that may be generated (name and version), and those that may not, in words.
    #[expect(clippy::type_complexity, reason = "two lists, named above")]
    pub(super) fn missing_secrets(
        &self,
        compose: &Compose,
        running: &[Service],
    ) -> Result<(Vec<(String, String)>, BTreeSet<String>), DeployError> {
        let wanted = compose.secrets();
        let (mut new, mut lost) = (Vec::new(), BTreeSet::new());
        if wanted.is_empty() {
            return Ok((new, lost));
        }
        let stack = self.stack_name()?;
        let there = self.objects(Objects::Secrets)?;
        let has_data = !self.volumes_now()?.is_empty();
        let text = self.laid().map_err(DeployError::Failed)?.unwrap_or_default();
        let in_use: BTreeSet<String> =
            running.iter().flat_map(|service| service.secrets_and_configs().0.into_keys()).collect();
        for (name, full) in wanted.iter().filter(|(_, full)| !there.contains_key(*full)) {
            let version = full.strip_prefix(&format!("{stack}_{name}_")).unwrap_or_default();
            let key = format!("SECRET_{}_VERSION", name.to_uppercase());
            let used_before = in_use.iter().any(|used| used.starts_with(&format!("{stack}_{name}_")));
            if version.is_empty() {
                lost.insert(format!("{name}: `{key}` is not set in the `.env` (or it is named `{full}`)"));
            } else if dotenv::not_generated(&text, &key) {
                lost.insert(format!("{full}: it is not to be generated, but inserted by you"));
            } else if used_before {
                lost.insert(format!("{full}: what runs has another `{name}`, which its data may depend on"));
            } else if running.is_empty() && has_data {
                lost.insert(format!("{full}: the app has data, which may depend on the one that is lost"));
            } else {
                new.push((name.clone(), version.to_owned()));
            }
        }
        Ok((new, lost))
    }

    /// Keeps the text of an `.env`, by what it comes to.
    pub(super) fn keep_env(&self, text: &str) -> Result<EnvDigest> {
        let digest = dotenv::effective(text).digest();
        durable::make_dir(&self.app_dirs.env())?;
        let path = self.app_dirs.env().join(digest.as_str());
        if durable::read(&path)?.is_none_or(|kept| kept != text.as_bytes()) {
            durable::replace(&path, text.as_bytes())?;
        }
        Ok(digest)
    }

    /// The text that was kept.
    pub(super) fn kept_env(&self, digest: &EnvDigest) -> Result<String> {
        let path = self.app_dirs.env().join(digest.as_str());
        let bytes =
            durable::read(&path)?.with_context(|| format!("its `.env` was not kept at `{}`", path.display()))?;
        let text = String::from_utf8(bytes).ok().with_context(|| format!("`{}` is not UTF-8", path.display()))?;
        ensure!(
            dotenv::effective(&text).digest() == *digest,
            "`{}` is another `.env` than was kept, or is read otherwise by this cc-warm",
            path.display()
        );
        Ok(text)
    }

    /// The environment of `digest`: as it was kept, or as the `.env` says where that is the one that somebody deployed with.
    pub(super) fn env_it_has(&self, digest: &EnvDigest) -> Result<Env> {
        let kept = self.kept_env(digest).map(|text| dotenv::effective(&text));
        kept.or_else(|lost| {
            let now = self.env_text()?.map(|text| dotenv::effective(&text));
            now.filter(|env| env.digest() == *digest).ok_or(lost)
        })
    }

    /// What was prepared as `identity`; what somebody else deployed, and still runs, is made so.
    pub(super) fn find(&self, identity: &Identity) -> Result<Release, DeployError> {
        let kept = self.folder.read_needs(identity).map_err(DeployError::Failed)?.is_some();
        if !kept || self.kept_env(&identity.env).is_err() {
            self.take_over(identity)?;
        }
        self.release_of(identity).map_err(DeployError::Failed)
    }

    /// What was kept of the release of `identity`.
    pub(super) fn release_of(&self, identity: &Identity) -> Result<Release> {
        let text = self.kept_env(&identity.env)?;
        self.mirror
            .ensure_pinned(&identity.commit)
            .with_context(|| format!("the recipe's mirror does not have commit {}", identity.commit.short()))?;
        Ok(Release {
            version: identity.version.clone(),
            commit: identity.commit.clone(),
            env: dotenv::effective(&text),
            secrets: identity.secrets.clone(),
        })
    }

    /// Keeps what is needed to come back to what runs, which somebody else deployed.
    fn take_over(&self, identity: &Identity) -> Result<(), DeployError> {
        self.ready()?;
        let services = self.services_now()?;
        let mut record = self.folder.read_record().map_err(DeployError::Failed)?;
        if self.identify(&services, &record)? != Known::Yes(identity.clone()) {
            return Err(DeployError::Failed(anyhow::anyhow!("{identity} was never prepared on this host")));
        }
        let text = self.env_text().map_err(DeployError::Failed)?.unwrap_or_default();
        if dotenv::effective(&text).digest() == identity.env {
            self.keep_env(&text).map_err(DeployError::Failed)?;
        }
        let mut needs = Needs::of(identity);
        for service in &services {
            let (secrets, configs) = service.secrets_and_configs();
            needs.secrets.extend(secrets);
            needs.configs.extend(configs);
            if let Some(image) = service.image()
                && let Some(id) = self.image(image)?
            {
                self.docker.tag(&id, &self.pin_name(&id)).run_ok().map_err(|error| self.judge(error))?;
                needs.images.insert(image.to_owned(), id);
            }
        }
        // A config of the stack itself is made again with it, under another id.
        let external = self.external_configs(&services);
        needs.configs.retain(|name, _| external.contains(name));
        let mut write = || -> Result<()> {
            self.folder.write_needs(identity, &needs)?;
            if record.is_still(&services).is_none() {
                let marks = services
                    .iter()
                    .map(|service| (service.id.clone(), ServiceMark { mark: service.mark(), before: None }));
                let at = self.clock.now();
                record.deployed = Some(Mark { identity: identity.clone(), from: None, at, services: marks.collect() });
                (record.under_way, record.stopping) = (None, false);
                self.folder.write_record(&record)?;
            }
            Ok(())
        };
        write().map_err(DeployError::Failed)
    }

    /// Names of configs that do not bear the stack's own prefix: somebody else made them.
    fn external_configs(&self, services: &[Service]) -> BTreeSet<String> {
        let prefix = self.stack_name().map(|stack| format!("{stack}_")).unwrap_or_default();
        services
            .iter()
            .flat_map(|service| service.secrets_and_configs().1.into_keys())
            .filter(|name| !name.starts_with(&prefix))
            .collect()
    }

    /// The name that keeps an image from being pruned.
    pub(super) fn pin_name(&self, id: &str) -> String {
        let hex = id.rsplit(':').next().unwrap_or(id);
        format!("{}:{}", self.pin_repository(), &hex[..hex.len().min(24)])
    }

    pub(super) fn pin_repository(&self) -> String {
        format!("{}{}", self.pins, self.app.name)
    }

    pub(super) fn forget_all_but(&self, releases: &[Identity]) -> Result<(), DeployError> {
        let record = self.folder.read_record().map_err(DeployError::Failed)?;
        let mut wanted: Vec<Identity> = releases.to_vec();
        // What runs is never dropped, whoever deployed it.
        wanted.extend(record.deployed.map(|mark| mark.identity));
        wanted.extend(record.under_way);
        let mut images = BTreeSet::new();
        let forget = || -> Result<BTreeSet<String>> {
            let keys = wanted.iter().map(folder::key).collect::<Result<BTreeSet<String>>>()?;
            remove_others(&self.folder.releases(), &keys)?;
            let commits = wanted.iter().map(|identity| identity.commit.to_string()).collect();
            remove_others(&self.folder.codes(), &commits)?;
            let envs = wanted.iter().map(|identity| identity.env.as_str().to_owned()).collect();
            remove_others(&self.app_dirs.env(), &envs)?;
            for identity in &wanted {
                let needs = self.folder.read_needs(identity)?;
                images.extend(needs.into_iter().flat_map(|needs| needs.images.into_values()));
            }
            Ok(images)
        };
        let pinned: BTreeSet<String> =
            forget().map_err(DeployError::Failed)?.iter().map(|id| self.pin_name(id)).collect();
        for name in self.lines(self.docker.tags(&self.pin_repository()))? {
            if !pinned.contains(&name) {
                self.docker.untag(&name).run_ok().map_err(|error| self.judge(error))?;
            }
        }
        Ok(())
    }
}

fn remove_others(dir: &Path, wanted: &BTreeSet<String>) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot list `{}`", dir.display())),
    };
    for entry in entries {
        let entry = entry?;
        if wanted.contains(&*entry.file_name().to_string_lossy()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            durable::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// A small text of the recipe, if it is there.
fn small_file(path: &Path) -> Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && found.len() <= 1 << 20 => {}
        Ok(_) => bail!("`{}` is no regular file of at most 1 MiB", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok(durable::read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// What the compose files of `release` are rendered with: what `abra.sh` exports, and the `.env` over it.
fn variables(code: &Path, release: &Release) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    if let Some(script) = small_file(&code.join("abra.sh"))? {
        variables.extend(compose::exports(&script));
    }
    variables.extend(release.env.0.iter().map(|(key, value)| (key.clone(), value.clone())));
    Ok(variables)
}

/// The files that `COMPOSE_FILE` names: all of the recipe, and regular.
fn compose_files(code: &Path, named: Option<&str>) -> Result<Vec<PathBuf>> {
    let named = named.filter(|text| !text.is_empty()).unwrap_or("compose.yml");
    let mut files = Vec::new();
    for name in named.split(':').filter(|name| !name.is_empty()) {
        let name: &Path = name.as_ref();
        let shown = name.display();
        let plain = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        ensure!(plain, "`COMPOSE_FILE` names `{shown}`, which is not in the recipe");
        let path = code.join(name.strip_prefix(".").unwrap_or(name));
        ensure!(
            fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()),
            "the recipe has no file `{shown}`, which `COMPOSE_FILE` names"
        );
        files.push(path);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_files_are_those_of_the_recipe_however_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("code");
        fs::create_dir_all(code.join("db")).unwrap();
        for path in [code.join("compose.yml"), code.join("db/compose.db.yml"), dir.path().join("other.yml")] {
            fs::write(path, "").unwrap();
        }
        let both = [code.join("compose.yml"), code.join("db/compose.db.yml")];
        for (named, wanted) in [
            (None, &both[..1]),
            (Some(""), &both[..1]),
            (Some("compose.yml:db/compose.db.yml"), &both[..]),
            (Some("./compose.yml:./db/compose.db.yml:"), &both[..]),
        ] {
            assert_eq!(compose_files(&code, named).unwrap(), wanted, "{named:?}");
        }
        let absolute = format!("{}/compose.yml", code.display());
        for named in ["../other.yml", "./../other.yml", "db/../../other.yml", "missing.yml", ".", "db", &absolute] {
            compose_files(&code, Some(named)).unwrap_err();
        }
    }
}
