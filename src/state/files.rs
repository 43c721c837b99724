//! Files of the state directory: put in place whole, and nobody else's business.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::StateProblem;

/// What a file is called while it is written.
pub(super) const TEMPORARY: &str = ".tmp";

/// Whether what is written has to outlive a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// The file is synchronised before it is in place. Waits for the disk.
    Yes,
    /// The operating system writes it when it likes. After a loss of power it may be empty or cut off.
    No,
}

/// Puts a file in place of the one of its name, whole.
pub(super) fn replace(directory: &Path, name: &str, content: &[u8], durable: Durable) -> io::Result<()> {
    let temporary = directory.join(format!(".{name}{TEMPORARY}"));
    // What a crash has left may have another mode.
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file
        .write_all(content)
        .and_then(|()| match durable {
            Durable::Yes => file.sync_all(),
            Durable::No => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, directory.join(name)));
    if written.is_err() {
        // A private key in a file that nobody knows helps nobody. The first error is the one that matters.
        let _ = remove(&temporary);
    }
    written
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The names of our files in a directory, in an order that does not depend on the file system. What a crash has left
/// half written is removed.
pub(super) fn names(directory: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        // A name that is not UTF-8 is not ours.
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name.strip_prefix('.').is_some_and(|rest| rest.strip_suffix(TEMPORARY).is_some_and(&is_ours)) {
            // If it cannot be removed, writing it will say so.
            let _ = remove(&directory.join(&name));
        } else if is_ours(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a file, if it is one and not larger than it can be; otherwise what is wrong with it.
pub(super) fn read(path: &Path, largest: u64) -> Result<(Vec<u8>, fs::Metadata), String> {
    let cannot = |error: io::Error| format!("it cannot be read ({error})");
    let metadata = fs::symlink_metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.len() > largest {
        return Err(format!("it is larger than {largest} bytes"));
    }
    Ok((fs::read(path).map_err(cannot)?, metadata))
}

/// Whether others may open it.
pub(super) fn open_to_others(path: &Path, metadata: &fs::Metadata, right: u32) -> Option<StateProblem> {
    let mode = metadata.permissions().mode() & 0o7777;
    let remedy = format!("{right:o}");
    (mode & 0o077 != 0).then(|| StateProblem::Open { path: path.display().to_string(), mode, remedy })
}
