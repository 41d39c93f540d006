//! Files with secrets: readable by their owner only, written completely or not at all.

use data_encoding::BASE64URL_NOPAD;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How the extension of a file begins while it is being written.
const UNFINISHED: &str = "new-";

/// Random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(format!("random bytes: {e}")))?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, durably and completely. After an error it is as it
/// was: an operator who is told that a key was not made must not find it in the file.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_by(path, bytes, &fs::File::sync_all)
}

type Sync<'a> = &'a dyn Fn(&fs::File) -> io::Result<()>;

/// As [`write_secret`], with what syncs the directory after the rename.
fn write_by(path: &Path, bytes: &[u8], sync_names: Sync<'_>) -> io::Result<()> {
    let dir = dir_of(path);
    engines::embedded::disk::make_dir_durable(dir)?;
    // Opened first, so that nothing is renamed when no more files can be opened.
    let names = fs::File::open(dir)?;
    let (new, old) = (unfinished(path)?, unfinished(path)?);
    let write = || {
        write_new(&new, bytes)?;
        let is_there = second_name(path, &old)?;
        fs::rename(&new, path)?;
        sync_names(&names).inspect_err(|_| {
            let back = if is_there { fs::rename(&old, path) } else { fs::remove_file(path) };
            not_undone(path, back);
        })
    };
    let written = write();
    // What is left of them is removed at a later start.
    [new, old].iter().for_each(|path| drop(fs::remove_file(path)));
    written
}

/// Removes a file durably; it need not be there. After an error it is as it was.
pub fn remove_secret(path: &Path) -> io::Result<()> {
    remove_by(path, &fs::File::sync_all)
}

fn remove_by(path: &Path, sync_names: Sync<'_>) -> io::Result<()> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let names = match fs::File::open(dir_of(path)) {
        Err(error) if is_missing(&error) => return Ok(()),
        names => names?,
    };
    let away = unfinished(path)?;
    let is_there = match fs::rename(path, &away) {
        Err(error) if is_missing(&error) => false,
        renamed => renamed.map(|()| true)?,
    };
    // Also if it was gone: an earlier process may have been killed before it synced that.
    let removed = sync_names(&names);
    match removed {
        Err(_) if is_there => not_undone(path, fs::rename(&away, path)),
        _ => drop(fs::remove_file(&away)),
    }
    removed
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// A new name beside a file's, which [`is_unfinished`] knows.
fn unfinished(path: &Path) -> io::Result<PathBuf> {
    let suffix = BASE64URL_NOPAD.encode(&random_bytes::<6>()?);
    Ok(path.with_extension(format!("{UNFINISHED}{suffix}")))
}

/// Keeps a file under a second name; false if there is none. A file system without links has a copy
/// of it.
fn second_name(path: &Path, second: &Path) -> io::Result<bool> {
    match fs::hard_link(path, second) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(_) => write_new(second, &fs::read(path)?).map(|()| true),
    }
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn not_undone(path: &Path, undone: io::Result<()>) {
    if let Err(error) = undone {
        let file = path.display();
        tracing::error!(%file, %error, "a change of a file failed, and cannot be undone: look at the file");
    }
}

/// Whether this is the name of a file that [`write_secret`] or [`remove_secret`] has not
/// finished.
pub fn is_unfinished(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.starts_with(UNFINISHED))
}

/// Removes files that were left because a process was killed while it wrote or removed one. Those
/// of the last minute may be another process's, which is still at it.
pub fn remove_unfinished(dir: &Path) -> io::Result<()> {
    const AGE_MIN: Duration = Duration::from_secs(60);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let is_old =
            |file: fs::Metadata| file.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > AGE_MIN));
        if is_unfinished(&path) && fs::metadata(&path).is_ok_and(is_old) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Reads a secret file; refuses one that others can read.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    only_the_owner_reads(path)?;
    fs::read(path).map_err(|e| named(path, &e))
}

/// Refuses a file that others can read.
pub fn only_the_owner_reads(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_err(|e| named(path, &e))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(invalid(path, &format!("mode {:o} lets others in: chmod 600 it", mode & 0o777)));
    }
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Reads a secret file, or creates it at the first start.
pub fn read_or_create_secret(path: &Path, make: impl Fn() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match read_secret(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            write_secret(path, &make()?)?;
            read_secret(path)
        }
        read => read,
    }
}

/// An error that names the file, and what to do about it.
pub fn invalid(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_secret(&at("admin.json"), b"{}").unwrap();
        let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        for (name, is_old) in [("admin.new-AbCd", true), ("denied.new-x_-1", false), ("news.json", true)] {
            let file = fs::File::create(at(name)).unwrap();
            if is_old {
                file.set_modified(hour_ago).unwrap();
            }
        }
        remove_unfinished(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["admin.json", "denied.new-x_-1", "news.json"]);
        remove_unfinished(&at("nowhere")).unwrap();
    }

    /// The files of a directory and what is in them.
    fn all(dir: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut all: Vec<_> = entries.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn a_directory_that_cannot_be_synced_leaves_each_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.json");
        let fails = |_: &fs::File| Err(io::Error::from_raw_os_error(5));
        let is = |text: &str| vec![("admin.json".to_owned(), text.to_owned())];
        assert_eq!(write_by(&path, b"new", &fails).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(all(dir.path()), []);
        write_secret(&path, b"old").unwrap();
        assert!(write_by(&path, b"new", &fails).is_err());
        assert_eq!(all(dir.path()), is("old"));
        only_the_owner_reads(&path).unwrap();
        write_secret(&path, b"new").unwrap();
        assert_eq!(all(dir.path()), is("new"));
        assert!(remove_by(&path, &fails).is_err());
        assert_eq!(all(dir.path()), is("new"));
        (0..2).for_each(|_| remove_secret(&path).unwrap());
        assert_eq!(all(dir.path()), []);
        remove_secret(&dir.path().join("nowhere/admin.json")).unwrap();
    }

    /// With 0, 1, 2 … files that may still be opened, in a process of its own: the limit is the
    /// process's.
    #[test]
    fn what_fails_for_want_of_a_file_handle_has_changed_nothing() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        use std::os::fd::AsRawFd;
        const ALONE: &str = "FLOODGATE_TEST_FILE_HANDLES";
        if std::env::var_os(ALONE).is_none() {
            let name = "secret::tests::what_fails_for_want_of_a_file_handle_has_changed_nothing";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let ran = alone.args(["--exact", name, "--test-threads=1"]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.json");
        let allowed = getrlimit(Resource::Nofile);
        let next = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
        // (failed, done) of the writes that replace a file, of those that make it, and of removals.
        let mut seen = [(0, 0); 3];
        for left in 0..6 {
            for (kind, seen) in seen.iter_mut().enumerate() {
                remove_secret(&path).unwrap();
                if kind != 1 {
                    write_secret(&path, b"old").unwrap();
                }
                let before = all(dir.path());
                let current = Some(next + left);
                setrlimit(Resource::Nofile, Rlimit { current, maximum: allowed.maximum }).unwrap();
                let done = if kind == 2 { remove_secret(&path) } else { write_secret(&path, b"new") };
                setrlimit(Resource::Nofile, allowed).unwrap();
                let now = all(dir.path());
                *(if done.is_err() { &mut seen.0 } else { &mut seen.1 }) += 1;
                match done {
                    Ok(()) if kind == 2 => assert_eq!(now, []),
                    Ok(()) => assert_eq!(now, [("admin.json".to_owned(), "new".to_owned())]),
                    Err(error) => assert_eq!((now, error.raw_os_error()), (before, Some(24)), "{left}"),
                }
            }
        }
        assert!(seen.iter().all(|(failed, done)| *failed > 0 && *done > 0), "{seen:?}");
    }
}
