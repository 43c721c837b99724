//! Volumes of a Pod: folders on the node, kept up to date as kubelets keep them.
//!
//! What comes from objects is written into a folder with a new name, and a symbolic link is put in the place of the old
//! one: readers see all of the old content or all of the new. Tokens are asked for again well before they end.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::PostParams;

use super::Node;
use super::container::field;
use super::pod::{Pod, ask};
use crate::support::programs;

/// The volumes of one Pod.
pub(super) struct Volumes {
    node: Arc<Node>,
    pod: Arc<Pod>,
    /// Owner and group of what is written, where the Pod says one.
    owner: (Option<u32>, Option<u32>),
    volumes: Vec<Volume>,
}

struct Volume {
    source: core::Volume,
    folder: PathBuf,
    content: BTreeMap<String, File>,
    written: u32,
    /// By audience: the token, and when to ask for the next one.
    tokens: BTreeMap<String, (String, Instant)>,
}

#[derive(Clone, PartialEq)]
struct File {
    content: Vec<u8>,
    mode: u32,
    /// It belongs to the user of the containers.
    is_private: bool,
}

/// The path of an entry, and what it is made from.
type Entry = (String, File);

impl Volumes {
    pub(super) fn new(node: &Arc<Node>, pod: &Arc<Pod>, spec: &core::PodSpec) -> Self {
        let context = spec.security_context.as_ref();
        let first = spec.containers.first();
        let user = first.and_then(|container| container.security_context.as_ref()?.run_as_user);
        let user = user.or(context.and_then(|context| context.run_as_user));
        let group = context.and_then(|context| context.fs_group);
        let volumes = spec.volumes.iter().flatten().map(|source| Volume {
            source: source.clone(),
            folder: pod.folder().join("volumes").join(&source.name),
            content: BTreeMap::new(),
            written: 0,
            tokens: BTreeMap::new(),
        });
        let number = |id: Option<i64>| id.map(|id| u32::try_from(id).unwrap());
        Self { node: node.clone(), pod: pod.clone(), owner: (number(user), number(group)), volumes: volumes.collect() }
    }

    /// The folder of a volume.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let volume = self.volumes.iter().find(|volume| volume.source.name == name);
        let volume = volume.unwrap_or_else(|| panic!("no volume is called {name}"));
        match &volume.source.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => volume.folder.clone(),
        }
    }

    /// Whether containers may write to a volume.
    pub(super) fn is_writable(&self, name: &str) -> bool {
        let volume = self.volumes.iter().find(|volume| volume.source.name == name).unwrap();
        volume.source.empty_dir.is_some() || volume.source.host_path.is_some()
    }

    /// Brings every volume up to date; says what is missing.
    pub(super) fn refresh(&mut self) -> Result<(), String> {
        let (node, pod, owner) = (self.node.clone(), self.pod.clone(), self.owner);
        for volume in &mut self.volumes {
            volume.refresh(&node, &pod, owner)?;
        }
        Ok(())
    }
}

impl Volume {
    fn refresh(&mut self, node: &Node, pod: &Pod, owner: (Option<u32>, Option<u32>)) -> Result<(), String> {
        let source = self.source.clone();
        if source.host_path.is_some() {
            return Ok(());
        }
        if source.empty_dir.is_some() {
            if !self.folder.exists() {
                fs::create_dir_all(&self.folder).unwrap();
                give(&self.folder, (None, owner.1));
                let mode = if owner.1.is_some() { 0o2777 } else { 0o777 };
                fs::set_permissions(&self.folder, Permissions::from_mode(mode)).unwrap();
            }
            return Ok(());
        }
        let mut entries = Vec::new();
        if let Some(map) = &source.config_map {
            let items = (map.items.as_deref(), map.default_mode, map.optional == Some(true));
            entries.extend(config_map(node, pod, &map.name, items)?);
        } else if let Some(secret) = &source.secret {
            let name = secret.secret_name.clone().unwrap();
            let items = (secret.items.as_deref(), secret.default_mode, secret.optional == Some(true));
            entries.extend(secret_entries(node, pod, &name, items)?);
        } else if let Some(downward) = &source.downward_api {
            entries.extend(downward_entries(pod, downward.items.as_deref(), downward.default_mode));
        } else if let Some(projected) = &source.projected {
            for part in projected.sources.iter().flatten() {
                let mode = projected.default_mode;
                if let Some(token) = &part.service_account_token {
                    entries.push(self.token(node, pod, token, mode)?);
                } else if let Some(map) = &part.config_map {
                    let items = (map.items.as_deref(), mode, map.optional == Some(true));
                    entries.extend(config_map(node, pod, &map.name, items)?);
                } else if let Some(secret) = &part.secret {
                    let items = (secret.items.as_deref(), mode, secret.optional == Some(true));
                    entries.extend(secret_entries(node, pod, &secret.name, items)?);
                } else if let Some(downward) = &part.downward_api {
                    entries.extend(downward_entries(pod, downward.items.as_deref(), mode));
                } else {
                    panic!("this node does not know the projection {part:?}");
                }
            }
        } else {
            panic!("this node does not know the volume {source:?}");
        }
        let content: BTreeMap<String, File> = entries.into_iter().collect();
        if self.written == 0 || content != self.content {
            self.write(&content, owner);
            self.content = content;
        }
        Ok(())
    }

    /// The token for an audience, asked for anew after four fifths of its time.
    fn token(
        &mut self,
        node: &Node,
        pod: &Pod,
        wanted: &core::ServiceAccountTokenProjection,
        mode: Option<i32>,
    ) -> Result<Entry, String> {
        let audience = wanted.audience.clone().unwrap_or_default();
        let seconds = wanted.expiration_seconds.unwrap_or(3600);
        let known = self.tokens.get(&audience).filter(|(_, renew)| Instant::now() < *renew);
        let token = match known {
            Some((token, _)) => token.clone(),
            None => {
                let token = request_token(node, pod, &audience, seconds)?;
                let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap());
                self.tokens.insert(audience, (token.clone(), Instant::now() + lifetime * 4 / 5));
                token
            }
        };
        let file = File { content: token.into_bytes(), mode: mode_of(None, mode), is_private: true };
        Ok((wanted.path.clone(), file))
    }

    fn write(&mut self, content: &BTreeMap<String, File>, owner: (Option<u32>, Option<u32>)) {
        self.written += 1;
        let data = format!("..{}", self.written);
        for (name, file) in content {
            let path = self.folder.join(&data).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.content).unwrap();
            let mut mode = file.mode;
            if file.is_private && owner.0.is_some() {
                mode = 0o600;
            }
            if owner.1.is_some() {
                mode |= (mode & 0o400) >> 3;
            }
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            give(&path, (owner.0.filter(|_| file.is_private), owner.1));
        }
        fs::create_dir_all(self.folder.join(&data)).unwrap();
        let (link, temporary) = (self.folder.join("..data"), self.folder.join("..data_tmp"));
        symlink(&data, &temporary).unwrap();
        fs::rename(&temporary, &link).unwrap();
        let top = |name: &String| name.split('/').next().unwrap().to_owned();
        for name in content.keys().map(top) {
            if fs::symlink_metadata(self.folder.join(&name)).is_err() {
                symlink(Path::new("..data").join(&name), self.folder.join(&name)).unwrap();
            }
        }
        for name in self.content.keys().filter(|name| !content.contains_key(*name)).map(top) {
            if !content.keys().map(top).any(|kept| kept == name) {
                let _ = fs::remove_file(self.folder.join(name));
            }
        }
        if self.written > 1 {
            let _ = fs::remove_dir_all(self.folder.join(format!("..{}", self.written - 1)));
        }
    }
}

fn request_token(node: &Node, pod: &Pod, audience: &str, seconds: i64) -> Result<String, String> {
    let accounts: Api<core::ServiceAccount> = Api::namespaced(node.plane.client.clone(), &pod.namespace);
    let object = pod.object();
    let account = object.spec.unwrap().service_account_name.unwrap_or_else(|| "default".to_owned());
    let bound = k8s_openapi::api::authentication::v1::BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: object.metadata.name,
        uid: object.metadata.uid,
    };
    let audiences = if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] };
    let spec = TokenRequestSpec { audiences, bound_object_ref: Some(bound), expiration_seconds: Some(seconds) };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = ask(async move { accounts.create_token_request(&account, &PostParams::default(), &request).await })?;
    Ok(answer.status.unwrap().token)
}

/// Which keys, the mode of those that have none of their own, and whether the object may be missing.
type Items<'a> = (Option<&'a [core::KeyToPath]>, Option<i32>, bool);

fn config_map(node: &Node, pod: &Pod, name: &str, items: Items<'_>) -> Result<Vec<Entry>, String> {
    let maps: Api<core::ConfigMap> = Api::namespaced(node.plane.client.clone(), &pod.namespace);
    let wanted = name.to_owned();
    let found = ask(async move { maps.get_opt(&wanted).await })?;
    let data = found.map(|map| {
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        text.chain(binary).collect()
    });
    select(&format!("ConfigMap {name}"), data, items)
}

fn secret_entries(node: &Node, pod: &Pod, name: &str, items: Items<'_>) -> Result<Vec<Entry>, String> {
    let secrets: Api<core::Secret> = Api::namespaced(node.plane.client.clone(), &pod.namespace);
    let wanted = name.to_owned();
    let found = ask(async move { secrets.get_opt(&wanted).await })?;
    let data =
        found.map(|secret| secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect());
    select(&format!("Secret {name}"), data, items)
}

fn select(name: &str, data: Option<BTreeMap<String, Vec<u8>>>, items: Items<'_>) -> Result<Vec<Entry>, String> {
    let (items, default_mode, optional) = items;
    let Some(data) = data else {
        return if optional { Ok(Vec::new()) } else { Err(format!("{name} is missing")) };
    };
    let file = |content: Vec<u8>, mode| File { content, mode, is_private: false };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let mode = mode_of(None, default_mode);
        return Ok(data.into_iter().map(|(key, content)| (key, file(content, mode))).collect());
    };
    let mut entries = Vec::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => entries.push((item.path.clone(), file(content.clone(), mode_of(item.mode, default_mode)))),
            None if optional => {}
            None => return Err(format!("{name} has no {}", item.key)),
        }
    }
    Ok(entries)
}

fn downward_entries(pod: &Pod, items: Option<&[core::DownwardAPIVolumeFile]>, mode: Option<i32>) -> Vec<Entry> {
    let object = pod.object();
    let entry = |item: &core::DownwardAPIVolumeFile| {
        let path = &item.field_ref.as_ref().expect("this node knows fields only").field_path;
        let content = field(&object, path, pod.address()).into_bytes();
        (item.path.clone(), File { content, mode: mode_of(item.mode, mode), is_private: false })
    };
    items.unwrap_or_default().iter().map(entry).collect()
}

fn mode_of(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(0o644)).unwrap()
}

fn give(path: &Path, owner: (Option<u32>, Option<u32>)) {
    if programs::has_users() && owner != (None, None) {
        chown(path, owner.0, owner.1).unwrap();
    }
}
