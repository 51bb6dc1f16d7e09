//! The app's volumes: those that bear the stack's label, wherever docker keeps them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use super::AbraDeployer;
use crate::deployer::docker_cli::STACK_LABEL;
use crate::deployer::swarm::{self, VolumeInfo};
use crate::deployer::{DeployError, Release};
use crate::lock::AppLock;
use crate::snapshot::Volume;
use crate::sys::durable;

const DATA: &str = "_data";

impl AbraDeployer<'_> {
    /// Whether the operator has taken the volume, by its name in docker or in the recipe, out of our hands.
    fn is_unmanaged(&self, full: &str, short: &str) -> bool {
        self.app.update.unmanaged.iter().any(|name| name == full || name == short)
    }

    pub(super) fn own_volumes(&self) -> Result<Vec<Volume>, DeployError> {
        let prefix = format!("{}_", self.stack_name()?);
        let mut volumes = Vec::new();
        for volume in self.volumes_now()? {
            if self.is_unmanaged(&volume.name, volume.name.strip_prefix(&prefix).unwrap_or(&volume.name)) {
                continue;
            }
            volumes.push(folder_of(&volume).map_err(DeployError::Failed)?);
        }
        Ok(volumes)
    }

    /// Why the data of `release` cannot be snapshotted here: each names the mount.
    pub(super) fn unsuitable(&self, release: &Release) -> Result<Vec<String>, DeployError> {
        let info = self.ready()?;
        let stack = self.stack_name()?;
        let prefix = format!("{stack}_");
        let compose = self.compose(release)?;
        let mut why = BTreeSet::new();
        for mount in compose.mounts().into_iter().filter(|mount| !mount.read_only && mount.kind != "tmpfs") {
            let (source, place) = (&mount.source, &mount.place);
            let full = compose.volume_name(&stack, source);
            if self.is_unmanaged(&full, source) || self.app.update.unmanaged.contains(place) {
                continue;
            }
            match mount.kind.as_str() {
                "volume" if source.is_empty() => {
                    why.insert(format!("an anonymous volume at {place}: its data goes with every deployment"));
                }
                "volume" => why.extend(
                    compose.unsuitable_volume(source).map(|what| format!("the volume `{source}` at {place}: {what}")),
                ),
                kind => {
                    why.insert(format!("a {kind} mount of `{source}` at {place}"));
                }
            }
        }
        let running = self.stack_now()?;
        let labelled = self.volumes_now()?;
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
            why.extend(unsuitable(volume).map(|what| format!("the volume `{}`: {what}", volume.name)));
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

/// Why a volume that exists cannot be snapshotted.
fn unsuitable(volume: &VolumeInfo) -> Option<String> {
    if volume.driver != "local" {
        return Some(format!("its driver is `{}`, not `local`", volume.driver));
    }
    let options = volume.options.iter().flatten().map(|(key, _)| key.as_str());
    let other: Vec<&str> = options.filter(|key| *key != "size").collect();
    if !other.is_empty() {
        return Some(format!("it has the driver options {}", other.join(", ")));
    }
    let path = Path::new(&volume.mountpoint);
    (!path.is_absolute() || path.file_name().is_none_or(|name| name != DATA))
        .then(|| format!("its data is at `{}`, where docker keeps none", volume.mountpoint))
}
