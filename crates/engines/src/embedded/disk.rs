//! The disk as the log needs it: a flat directory of files, and what makes each change durable.
//!
//! It knows nothing of segments and frames. [`RealDisk`] is a directory; the simulator brings one
//! that loses what was not synced.

use rustix::fs::{FallocateFlags, fallocate};
use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// The file that the lock is taken on. It is always empty.
pub const LOCK_NAME: &str = "LOCK";

/// Payment references and reasons stand in a log, whatever the umask.
const FILE_MODE: u32 = 0o600;

/// One directory. A cheap handle: readers and snapshot writers keep a copy of their own.
pub trait Disk: Clone + fmt::Debug + Send + 'static {
    /// An open file.
    type File: DiskFile;
    /// Held while the directory is locked; dropping it unlocks.
    type Lock: fmt::Debug + Send + 'static;

    /// The directory's path, for messages.
    fn place(&self) -> String;
    /// Locks the directory for one writer; `None` if another writer, in this process or another,
    /// has it.
    fn lock(&self) -> io::Result<Option<Self::Lock>>;
    /// The names of all files, in any order, [`LOCK_NAME`] included.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file; fails if the name is taken. Durable after [`Disk::sync_dir`].
    fn create_new(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to read and write.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to read only; needs no write permission.
    fn open_read(&self, name: &str) -> io::Result<Self::File>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file, replacing one that has the name, in one step. Durable after
    /// [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file.
pub trait DiskFile: fmt::Debug + Send + 'static {
    /// Writes all of `bytes` at `offset`. After an error, any part of them may be there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads until `buf` is full or the file ends; returns how much it read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes the content durable, with the metadata that is needed to read it (fdatasync). After an
    /// error, what was written since the last success may be on the disk or not, and reading it
    /// proves nothing: the kernel may have marked the pages clean (Rebello et al., "Can
    /// Applications Recover from fsync Failures?", USENIX ATC 2020).
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves room up to `len` and makes the file that long, with zeros after the old end; never
    /// shortens it.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file or lengthens it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// How long it is.
    fn len(&self) -> io::Result<u64>;
    /// True if it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A file that is already gone counts as removed.
pub(crate) fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A directory of the operating system.
#[derive(Debug, Clone)]
pub struct RealDisk {
    dir: Arc<PathBuf>,
    /// The directory, open to be synced: a sync of its names must not fail because the process has
    /// too many files open.
    opened: Arc<OnceLock<File>>,
}

impl RealDisk {
    /// The directory `dir`, which is created, durably, if it does not exist.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let disk = Self::existing(dir);
        make_dirs(dir, &sync_names, &|| disk.opened().map(drop))?;
        Ok(disk)
    }

    /// The directory `dir` as it is; nothing is made.
    pub fn existing(dir: &Path) -> Self {
        Self { dir: Arc::new(dir.to_owned()), opened: Arc::default() }
    }

    fn opened(&self) -> io::Result<&File> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = File::open(&*self.dir)?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Creates a directory and its missing parents, for the owner only, each durable before this
/// returns: the name of a directory is safe only once its parent was synced. The last name is
/// synced even if it existed, for the process that made it may have been killed before it could
/// sync. If this fails, it leaves no directory that it has made.
pub fn make_dir_durable(dir: &Path) -> io::Result<()> {
    make_dirs(dir, &sync_names, &|| Ok(()))
}

fn sync_names(parent: &Path) -> io::Result<()> {
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        // A parent that we may not read cannot be synced by us; then it was not created by us
        // either.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// As [`make_dir_durable`], with `sync` for a directory in which a name was made, and `then` for
/// what must succeed, too.
fn make_dirs(
    dir: &Path,
    sync: &dyn Fn(&Path) -> io::Result<()>,
    then: &dyn Fn() -> io::Result<()>,
) -> io::Result<()> {
    let is_missing = |above: &&Path| !above.as_os_str().is_empty() && !above.is_dir();
    let mut wanted: Vec<&Path> = dir.ancestors().skip(1).take_while(is_missing).collect();
    wanted.reverse();
    wanted.push(dir);
    let mut made = Vec::new();
    let done = wanted.into_iter().try_for_each(|dir| make_dir(dir, sync, &mut made)).and_then(|()| then());
    // Only what is empty is removed: another process may use it by now.
    done.inspect_err(|_| made.iter().rev().for_each(|dir| drop(fs::remove_dir(dir))))
}

/// Creates one directory, if it does not exist, and syncs the one that it is in; adds it to `made`.
fn make_dir<'a>(
    dir: &'a Path,
    sync: &dyn Fn(&Path) -> io::Result<()>,
    made: &mut Vec<&'a Path>,
) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => made.push(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) => return Err(error),
    }
    sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// An exclusive `flock`, which the operating system drops with the process.
#[derive(Debug)]
pub struct RealLock {
    _file: File,
}

impl Disk for RealDisk {
    type File = File;
    type Lock = RealLock;

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn lock(&self) -> io::Result<Option<RealLock>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(self.path(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&*self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create_new(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn open_read(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.opened()?.sync_all()
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match FileExt::read_at(self, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Some file systems cannot reserve. The log stays correct without; a full disk is then
            // met by a write.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                if DiskFile::len(self)? < len {
                    File::set_len(self, len)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_made_durable_is_not_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let left = || fs::read_dir(root.path()).unwrap().count();
        let dir = root.path().join("a/b/c");
        for failing in ["", "a", "a/b"] {
            let failing = root.path().join(failing);
            let sync = |parent: &Path| {
                if parent == failing { Err(io::Error::other("no handle is left")) } else { Ok(()) }
            };
            assert!(make_dirs(&dir, &sync, &|| Ok(())).is_err());
            assert_eq!(left(), 0, "after a failure in {}", failing.display());
        }
        // A handle is enough to sync each parent, and another thread takes it before the directory
        // itself is opened.
        let none_left = || Err(io::Error::other("no handle is left"));
        assert!(make_dirs(&dir, &sync_names, &none_left).is_err());
        assert_eq!(left(), 0, "it cannot be opened");
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/kept"), "").unwrap();
        assert!(make_dirs(&dir, &|_| none_left(), &|| Ok(())).is_err());
        assert_eq!(fs::read_dir(root.path().join("a")).unwrap().count(), 1, "what was there stays");
        make_dir_durable(&dir).unwrap();
        assert!(dir.is_dir());
    }
}
