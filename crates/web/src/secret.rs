//! Files with secrets: readable by their owner only, written completely or not at all.

use data_encoding::BASE64URL_NOPAD;
use std::{fs, io, path::Path};

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
    let temporary = path.with_extension(format!("new-{suffix}"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| fs::File::open(dir)?.sync_all())
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
