//! Letters as files of one directory, `TIME-ID.eml`: for a shop without a server of mail, and for
//! those who try one. Only its owner can read them. The oldest ones are dropped when there are too
//! many.

use super::{Letter, Mail, MailError, Sender, Sent};
use crate::embedded::disk::make_dir_durable;
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// Letters that are kept, and their bytes.
const LETTERS_MAX: usize = 1_000;
const BYTES_MAX: u64 = 64 << 20;

/// The directory.
#[derive(Debug, Clone)]
pub struct Files {
    sender: Sender,
    dir: Arc<Dir>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    /// One letter at a time, so that what is counted is what is there.
    writing: Mutex<()>,
    letters_max: usize,
    bytes_max: u64,
}

impl Files {
    /// Makes the directory, if it is not there, and closes it to others.
    pub fn open(path: &Path, sender: Sender) -> io::Result<Self> {
        Self::with(path, sender, (LETTERS_MAX, BYTES_MAX))
    }

    fn with(path: &Path, sender: Sender, (letters_max, bytes_max): (usize, u64)) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        make_dir_durable(path)?;
        let dir = Dir { path: path.to_owned(), writing: Mutex::new(()), letters_max, bytes_max };
        dir.remove_unfinished()?;
        Ok(Self { sender, dir: Arc::new(dir) })
    }
}

impl Mail for Files {
    fn send(&self, letter: Letter) -> Sent<'_> {
        Box::pin(async move {
            let (name, message) = (name_of(&letter), self.sender.message(letter)?);
            let dir = Arc::clone(&self.dir);
            let written = tokio::task::spawn_blocking(move || dir.write(&name, &message.formatted())).await;
            let written =
                written.map_err(|_| MailError::Later("the letter's file: the writer ended".into()))?;
            written.map_err(|error| MailError::Later(format!("the letter's file: {error}")))
        })
    }
}

/// The same for each try, so that a letter that is written twice is one file.
fn name_of(letter: &Letter) -> String {
    let at = letter.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let id: String = letter.id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{at:013}-{id}.eml")
}

const UNFINISHED: &str = ".unfinished-";

impl Dir {
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = self.path.join(format!("{UNFINISHED}{name}"));
        let written = (|| {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path.join(name))?;
            fs::File::open(&self.path)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        // What is too much goes also where the disk had no room for this one.
        self.drop_oldest().and(written)
    }

    fn drop_oldest(&self) -> io::Result<()> {
        let mut letters = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".eml") && !name.starts_with('.') {
                letters.push((name, entry.metadata()?.len()));
            }
        }
        letters.sort();
        let mut bytes: u64 = letters.iter().map(|(_, bytes)| bytes).sum();
        let mut count = letters.len();
        // The newest one stays, however large it is.
        for (name, of_one) in letters.iter().take(letters.len().saturating_sub(1)) {
            if count <= self.letters_max && bytes <= self.bytes_max {
                break;
            }
            fs::remove_file(self.path.join(name))?;
            (count, bytes) = (count - 1, bytes - of_one);
        }
        Ok(())
    }

    /// Those of a process that was killed while it wrote one.
    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn letter(number: u8) -> Letter {
        Letter {
            id: [number; 16],
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(number.into()),
            to: "ann@example.com".into(),
            subject: "A letter".into(),
            text: "Hello".into(),
            html: "<p>Hello</p>".into(),
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn sender() -> Sender {
        Sender::parse("mail@shop.example").unwrap()
    }

    #[tokio::test]
    async fn a_letter_is_one_file_that_only_its_owner_reads() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mail");
        let files = Files::open(&path, sender()).unwrap();
        files.send(letter(1)).await.unwrap();
        files.send(letter(1)).await.unwrap();
        let name = "0000000001000-01010101010101010101010101010101.eml";
        assert_eq!(names(&path), [name]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(name))), (0o700, 0o600));
        let text = fs::read_to_string(path.join(name)).unwrap();
        assert!(text.contains("To: ann@example.com\r\n"), "{text}");
    }

    #[tokio::test]
    async fn the_oldest_letters_go_when_there_are_too_many_or_too_large_ones() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, other) = (scratch.path().join("few"), scratch.path().join("small"));
        let files = Files::with(&path, sender(), (3, BYTES_MAX)).unwrap();
        for number in 1..=5 {
            files.send(letter(number)).await.unwrap();
        }
        let seconds = |path: &Path| names(path).iter().map(|name| name[9..10].to_owned()).collect::<String>();
        assert_eq!(seconds(&path), "345");
        let files = Files::with(&other, sender(), (100, 1)).unwrap();
        for number in 1..=3 {
            files.send(letter(number)).await.unwrap();
        }
        assert_eq!(seconds(&other), "3", "the newest one stays");
    }

    #[tokio::test]
    async fn what_a_killed_process_left_goes_and_a_directory_that_is_away_is_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mail");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(".unfinished-1.eml"), "half").unwrap();
        let files = Files::open(&path, sender()).unwrap();
        assert!(names(&path).is_empty());
        fs::remove_dir(&path).unwrap();
        let sent = files.send(letter(1)).await;
        assert!(matches!(sent, Err(MailError::Later(_))), "{sent:?}");
        fs::create_dir(&path).unwrap();
        files.send(letter(1)).await.unwrap();
        assert_eq!(names(&path).len(), 1);
    }
}
