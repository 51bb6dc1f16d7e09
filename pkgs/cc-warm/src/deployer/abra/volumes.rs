//! The app's volumes: those that bear the stack's label, wherever docker keeps them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use super::AbraDeployer;
use crate::deployer::compose::{LIMITED, SIZE};
use crate::deployer::docker_cli::STACK_LABEL;
use crate::deployer::swarm::{self, VolumeInfo};
use crate::deployer::{DeployError, Release};
use crate::lock::AppLock;
use crate::snapshot::{Volume, flags};
use crate::sys::durable;

const DATA: &str = "_data";

impl AbraDeployer<'_> {
    /// Whether the operator has taken the volume, by its name in docker or in the recipe, out of our hands.
    fn is_unmanaged(&self, full: &str, short: &str) -> bool {
        self.app.update.unmanaged.iter().any(|name| name == full || name == short)
    }

    pub(super) fn own_volumes(&self) -> Result<Vec<Volume>, DeployError> {
        let (_, own) = self.volumes_by_hand()?;
        own.iter().map(|volume| folder_of(volume).map_err(DeployError::Failed)).collect()
    }

    pub(super) fn volumes_left_out(&self) -> Result<Vec<String>, DeployError> {
        let (left_out, _) = self.volumes_by_hand()?;
        Ok(left_out.into_iter().map(|volume| volume.name).collect())
    }

    /// Those that are in their operator's hands, and those that are in ours.
    fn volumes_by_hand(&self) -> Result<(Vec<VolumeInfo>, Vec<VolumeInfo>), DeployError> {
        let prefix = format!("{}_", self.stack_name()?);
        let is_left_out = |volume: &VolumeInfo| {
            self.is_unmanaged(&volume.name, volume.name.strip_prefix(&prefix).unwrap_or(&volume.name))
        };
        Ok(self.volumes_now()?.into_iter().partition(is_left_out))
    }

    /// Why the data of `release` cannot be snapshotted here: each names the mount.
    pub(super) fn unsuitable(&self, release: &Release) -> Result<Vec<String>, DeployError> {
        let info = self.ready()?;
        let stack = self.stack_name()?;
        let prefix = format!("{stack}_");
        let compose = self.compose(release)?;
        let labelled = self.volumes_now()?;
        let all = self.all_volumes()?;
        let mut why = BTreeSet::new();
        for mount in compose.mounts().into_iter().filter(|mount| !mount.read_only && mount.kind != "tmpfs") {
            let (source, place) = (&mount.source, &mount.place);
            let full = compose.volume_name(&stack, source);
            // A volume that has a name is snapshotted by that, whatever its place is called.
            let by_place = mount.kind != "volume" || source.is_empty();
            if self.is_unmanaged(&full, source) || (by_place && self.app.update.unmanaged.contains(place)) {
                continue;
            }
            match mount.kind.as_str() {
                "volume" if source.is_empty() => {
                    why.insert(format!("an anonymous volume at {place}: its data goes with every deployment"));
                }
                "volume" => {
                    let what = compose.unsuitable_volume(source).or_else(|| strange(&full, &all, &labelled));
                    why.extend(what.map(|what| format!("the volume `{source}` at {place}: {what}")));
                }
                kind => {
                    why.insert(format!("a {kind} mount of `{source}` at {place}"));
                }
            }
        }
        let running = self.stack_now()?;
        let mounted: BTreeSet<String> = running.services.iter().flat_map(swarm::Service::volumes).collect();
        for name in mounted.iter().filter(|name| !labelled.iter().any(|volume| volume.name == **name)) {
            if !self.is_unmanaged(name, name.strip_prefix(&prefix).unwrap_or(name)) {
                why.insert(format!("the volume `{name}` is mounted, but does not bear the stack's label on this node"));
            }
        }
        for volume in &labelled {
            if self.is_unmanaged(&volume.name, volume.name.strip_prefix(&prefix).unwrap_or(&volume.name)) {
                continue;
            }
            let found = unsuitable(volume)
                .or_else(|| is_limited(volume).then(|| LIMITED.to_owned()))
                .or_else(|| flags::pins(Path::new(&volume.mountpoint)));
            why.extend(found.map(|what| format!("the volume `{}`: {what}", volume.name)));
            for container in self.containers_with(&volume.name)? {
                let own = container.labels.as_ref().and_then(|labels| labels.get(STACK_LABEL)) == Some(&stack);
                if container.state != "exited" && !own {
                    let name = container.name();
                    why.insert(format!(
                        "the volume `{}` is mounted by `{name}`, which is not of this stack",
                        volume.name
                    ));
                }
            }
        }
        for service in swarm::elsewhere(&info.swarm.node_id, &running.services, &running.tasks) {
            why.insert(format!(
                "the service `{service}` runs on another node, and its data is there: set the constraint \
                 `node.id == {}` in its `deploy.placement.constraints`",
                info.swarm.node_id
            ));
        }
        Ok(why.into_iter().collect())
    }

    pub(super) fn make_volume(&self, name: &str, lock: &AppLock) -> Result<Volume, DeployError> {
        self.ready()?;
        let find = || -> Result<Option<VolumeInfo>, DeployError> {
            Ok(self.volumes_now()?.into_iter().find(|volume| volume.name == name))
        };
        if let Some(volume) = find()? {
            return folder_of(&volume).map_err(DeployError::Failed);
        }
        let mut made = self.folder.read_volumes().map_err(DeployError::Failed)?.made.remove(name).unwrap_or_default();
        made.labels.insert(STACK_LABEL.to_owned(), self.stack_name()?);
        let (labels, options): (Vec<_>, Vec<_>) =
            (made.labels.into_iter().collect(), made.options.into_iter().collect());
        self.change(self.docker.create_volume(name, &labels, &options), lock)?;
        // docker says nothing when a volume of the name exists already, whoever it belongs to.
        let volume = find()?.with_context(|| format!("the volume `{name}` belongs to somebody else"));
        volume.and_then(|volume| folder_of(&volume)).map_err(DeployError::Failed)
    }

    /// docker removes a volume's folder with all that is in it. Where failed data is kept beside `_data`, the volume
    /// stays, empty.
    pub(super) fn drop_volume(&self, name: &str, lock: &AppLock) -> Result<(), DeployError> {
        self.ready()?;
        let Some(volume) = self.volumes_now()?.into_iter().find(|volume| volume.name == name) else { return Ok(()) };
        let Volume { dir, .. } = folder_of(&volume).map_err(DeployError::Failed)?;
        let keeps_others = || -> Result<bool> {
            let data = dir.join(DATA);
            let is_empty = !data.exists() || fs::read_dir(&data)?.next().is_none();
            ensure!(is_empty, "the volume `{name}` still holds data");
            let mut others = false;
            for entry in fs::read_dir(&dir)? {
                others |= entry?.file_name() != DATA;
            }
            if others && !data.exists() {
                fs::create_dir(&data)?;
                durable::sync_dir(&dir)?;
            }
            Ok(others)
        };
        if keeps_others().map_err(DeployError::Failed)? {
            Ok(())
        } else {
            self.change(self.docker.remove_volume(name), lock)
        }
    }
}

/// The folder in which a volume's `_data` lies.
fn folder_of(volume: &VolumeInfo) -> Result<Volume> {
    if let Some(why) = unsuitable(volume) {
        return Err(anyhow!("the volume `{}`: {why}", volume.name));
    }
    let dir = Path::new(&volume.mountpoint).parent().map(PathBuf::from).context("a volume has a folder")?;
    Ok(Volume { name: volume.name.clone(), dir })
}

/// Why a volume that docker would find by its name is not of those that are snapshotted; one that is not there yet will be.
fn strange(full: &str, all: &BTreeSet<String>, own: &[VolumeInfo]) -> Option<String> {
    let is_own = own.iter().any(|volume| volume.name == full);
    (!is_own && all.contains(full))
        .then(|| format!("the volume `{full}` exists already, and does not bear the stack's label on this node"))
}

/// Whether docker holds the volume to a size. Such a one is taken back, where that has begun already; but nothing is begun.
fn is_limited(volume: &VolumeInfo) -> bool {
    volume.options.iter().flatten().any(|(key, _)| key == SIZE)
}

/// Why a volume that exists cannot be snapshotted, or restored.
fn unsuitable(volume: &VolumeInfo) -> Option<String> {
    if volume.driver != "local" {
        return Some(format!("its driver is `{}`, not `local`", volume.driver));
    }
    let options = volume.options.iter().flatten().map(|(key, _)| key.as_str());
    let other: Vec<&str> = options.filter(|key| *key != SIZE).collect();
    if !other.is_empty() {
        return Some(format!("it has the driver options {}", other.join(", ")));
    }
    let path = Path::new(&volume.mountpoint);
    (!path.is_absolute() || path.file_name().is_none_or(|name| name != DATA))
        .then(|| format!("its data is at `{}`, where docker keeps none", volume.mountpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_of_somebody_else_is_strange_and_a_new_one_is_not() {
        let own = [VolumeInfo {
            name: "mine_data".to_owned(),
            driver: "local".to_owned(),
            mountpoint: String::new(),
            labels: None,
            options: None,
        }];
        let all = BTreeSet::from(["mine_data", "login_mariadb"].map(str::to_owned));
        for (name, is_strange) in [("mine_data", false), ("login_mariadb", true), ("mine_new", false)] {
            assert_eq!(strange(name, &all, &own).is_some(), is_strange, "{name}");
        }
    }

    #[test]
    fn knows_volumes_that_cannot_be_snapshotted_and_those_that_are_only_taken_back() {
        for (driver, options, mountpoint, suits, limited) in [
            ("local", &[][..], "/d/v/_data", true, false),
            ("local", &["size"], "/d/v/_data", true, true),
            ("local", &["size", "type"], "/d/v/_data", false, true),
            ("nfs", &[], "/d/v/_data", false, false),
            ("local", &[], "/d/v/data", false, false),
            ("local", &[], "v/_data", false, false),
        ] {
            let volume = VolumeInfo {
                name: "v".to_owned(),
                driver: driver.to_owned(),
                mountpoint: mountpoint.to_owned(),
                labels: None,
                options: Some(options.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect()),
            };
            assert_eq!((unsuitable(&volume).is_none(), is_limited(&volume)), (suits, limited), "{volume:?}");
            assert_eq!(folder_of(&volume).is_ok(), suits, "{volume:?}");
        }
    }
}
