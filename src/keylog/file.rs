//! The file of the key log: opened once, at the start, for appending.
//!
//! Whoever can read it can decrypt what was captured of the connections in it. So it is made with mode 0600; and one that
//! is there already has to be a regular file of ours that nobody else may open, because a link or a file which another
//! user of the machine has put there would hand the secrets to that user. Both are looked at again before each write. One
//! process writes it at a time: a lock says so to others.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Why the file cannot be the key log.
#[derive(thiserror::Error, Debug)]
pub enum KeyLogError {
    /// It is there, and not ours.
    #[error("--allow-keylog {path}: it belongs to another user ({owner}): name a file that does not exist")]
    Foreign {
        /// What was named.
        path: String,
        /// The number of that user.
        owner: u32,
    },
    /// Another process has it.
    #[error("--allow-keylog {path}: another process writes it: name a separate file for each process")]
    InUse {
        /// What was named.
        path: String,
    },
    /// Whether another process has it cannot be found out.
    #[error("--allow-keylog {path}: cannot lock it: name a file on a local disk")]
    Lock {
        /// What was named.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a device, a pipe or a socket.
    #[error("--allow-keylog {path}: it is not a regular file: name one, or a file that does not exist")]
    NotAFile {
        /// What was named.
        path: String,
    },
    /// It cannot be opened or made.
    #[error(
        "--allow-keylog {path}: cannot open it for appending: name a file in an existing directory that this user may write to"
    )]
    Open {
        /// What was named.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Others could read the secrets, or change them.
    #[error("--allow-keylog {path}: it is open to other users (mode {mode:04o}): chmod 600 {path}")]
    OpenToOthers {
        /// What was named.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Somebody put another file there while it was opened.
    #[error("--allow-keylog {path}: it was replaced while it was opened: name a file in a directory of your own")]
    Replaced {
        /// What was named.
        path: String,
    },
    /// Where the secrets go must be what the flag says.
    #[error("--allow-keylog {path}: it is a symbolic link: name the file itself")]
    SymbolicLink {
        /// What was named.
        path: String,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes --allow-keylog")]
    Thread(#[source] io::Error),
}

/// The file, open and locked.
pub(super) struct Appender(File);

/// Makes the file, or takes the one that is there.
pub(super) fn open(path: &Path) -> Result<Appender, KeyLogError> {
    let shown = || path.display().to_string();
    let failed = |source| KeyLogError::Open { path: shown(), source };
    // A new file is new: a link that leads nowhere is not followed.
    match OpenOptions::new().append(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => return lock(path, file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let named = fs::symlink_metadata(path).map_err(failed)?;
    if named.is_symlink() {
        return Err(KeyLogError::SymbolicLink { path: shown() });
    }
    if !named.is_file() {
        return Err(KeyLogError::NotAFile { path: shown() });
    }
    judge(path, &named)?;
    let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
    let opened = file.metadata().map_err(failed)?;
    if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
        return Err(KeyLogError::Replaced { path: shown() });
    }
    // Of what is open, in case it changed between the two looks.
    judge(path, &opened)?;
    lock(path, file)
}

fn lock(path: &Path, file: File) -> Result<Appender, KeyLogError> {
    let path = || path.display().to_string();
    match file.try_lock() {
        Ok(()) => Ok(Appender(file)),
        Err(TryLockError::WouldBlock) => Err(KeyLogError::InUse { path: path() }),
        Err(TryLockError::Error(source)) => Err(KeyLogError::Lock { path: path(), source }),
    }
}

fn judge(path: &Path, metadata: &Metadata) -> Result<(), KeyLogError> {
    let path = path.display().to_string();
    let owner = metadata.uid();
    if our_user().is_some_and(|user| user != owner) {
        return Err(KeyLogError::Foreign { path, owner });
    }
    match open_to_others(metadata) {
        Some(mode) => Err(KeyLogError::OpenToOthers { path, mode }),
        None => Ok(()),
    }
}

/// The mode of a file that other users may open.
fn open_to_others(metadata: &Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// The user that we are (effective), where Linux tells; the standard library does not.
fn our_user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let metadata = self.0.metadata()?;
        // Nobody could read what is written there.
        if metadata.nlink() == 0 {
            return Err(io::Error::other("the file has been removed; restart Handfast to create it again"));
        }
        // And here everybody could.
        if let Some(mode) = open_to_others(&metadata) {
            return Err(io::Error::other(format!("the file is open to other users now (mode {mode:04o}): chmod 600")));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(path: &Path) -> String {
        match open(path) {
            Ok(_) => panic!("{} is taken", path.display()),
            Err(error) => error.to_string(),
        }
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_made_for_its_owner_alone_and_appended_to_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.log");
        for line in ["first\n", "second\n"] {
            open(&path).unwrap().write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\nsecond\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_others_may_read_or_have_put_there_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.log");
        fs::write(&path, "").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601, 0o666] {
            chmod(&path, mode);
            let text = refused(&path);
            assert!(text.contains(&format!("(mode {mode:04o}): chmod 600 /")), "{text}");
        }
        chmod(&path, 0o600);
        open(&path).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(refused(&link).contains("--allow-keylog") && refused(&link).contains("symbolic link"));
        let nowhere = directory.path().join("nowhere");
        symlink(directory.path().join("no-such-file"), &nowhere).unwrap();
        assert!(refused(&nowhere).contains("symbolic link"));
        assert!(!directory.path().join("no-such-file").exists(), "a link that leads nowhere was followed");
        for other in [directory.path(), Path::new("/dev/null")] {
            assert!(refused(other).contains("not a regular file"), "{}", other.display());
        }
        assert!(refused(&directory.path().join("no/such/directory")).contains("an existing directory"));
        assert!(refused(Path::new("")).contains("an existing directory"));
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.log");
        fs::write(&path, "").unwrap();
        chmod(&path, 0o600);
        let owner = fs::metadata(&path).unwrap().uid();
        assert_eq!(our_user(), Some(owner), "this system has no /proc/self/status to learn the user from");
        // Only the superuser can give files away; everybody else meets files of others that are there already.
        let given = std::os::unix::fs::chown(&path, Some(owner + 1), None).is_ok();
        let foreign = if given { path.as_path() } else { Path::new("/etc/passwd") };
        assert!(refused(foreign).contains("another user"), "{}", refused(foreign));
    }

    #[test]
    fn a_file_that_another_process_has_is_refused_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.log");
        let first = open(&path).unwrap();
        assert!(refused(&path).contains("another process writes it"));
        drop(first);
        open(&path).unwrap();
    }

    #[test]
    fn writing_to_a_file_that_has_come_to_be_open_to_others_is_an_error_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.log");
        let mut file = open(&path).unwrap();
        for mode in [0o640, 0o604, 0o666] {
            chmod(&path, mode);
            let error = file.write_all(b"secret").unwrap_err().to_string();
            assert!(error.contains(&format!("(mode {mode:04o}): chmod 600")), "{error}");
        }
        chmod(&path, 0o600);
        file.write_all(b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn writing_to_a_file_that_has_been_removed_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.log");
        let mut file = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(file.write_all(b"x").unwrap_err().to_string().contains("restart"));
    }
}
