//! Files with secrets: readable by their owner only, written completely or not at all.

use data_encoding::BASE64URL_NOPAD;
use std::{fs, io, path::Path, time::Duration};

/// How the extension of a file begins while it is being written.
const UNFINISHED: &str = "new-";

/// Random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(format!("random bytes: {e}")))?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, completely or not at all.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let dir = path.parent().unwrap_or(Path::new("."));
    engines::embedded::disk::make_dir_durable(dir)?;
    let suffix = BASE64URL_NOPAD.encode(&random_bytes::<6>()?);
    let temporary = path.with_extension(format!("{UNFINISHED}{suffix}"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| fs::File::open(dir)?.sync_all())
}

/// Whether this is the name of a file that [`write_secret`] has not finished.
pub fn is_unfinished(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.starts_with(UNFINISHED))
}

/// Removes files that [`write_secret`] did not finish because its process was killed. Those of the
/// last minute may be another process's, which is still at it.
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
}
