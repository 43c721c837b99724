//! What takes long to make, kept below `~/.cache/handfast`: each folder is named by the digest of what it is made from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The folder for what is made from this content.
pub fn folder(name: &str, content: &[u8]) -> PathBuf {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, content);
    let digest: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("handfast").join(format!("{name}-{digest}"))
}

/// Has a folder made that is not complete. Several test processes may want it at once; the first one makes it.
pub fn complete(folder: &Path, make: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !complete.exists() {
        let _ = fs::remove_dir_all(folder);
        make()?;
        fs::write(&complete, "").unwrap();
    }
    Ok(())
}
