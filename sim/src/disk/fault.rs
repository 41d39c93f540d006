//! The faults of the disk, and what the caller of a call that one has struck is told.

use std::io::{self, ErrorKind};

/// A call that the disk can be told to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Create,
    Open,
    Read,
    Remove,
    Rename,
    /// The file has its new name, and the caller is told that it has not: a network's file system
    /// asks twice, and hears the second time that there is no such file.
    RenameDone,
}

impl Call {
    /// With what an error begins that is due to such a call.
    fn doing(self) -> &'static [&'static str] {
        match self {
            Self::Create | Self::Rename | Self::RenameDone => &["begin a segment", "reopen", "write"],
            Self::Remove => &["begin a segment", "reopen", "write", "remove"],
            Self::Open => &["open", "list", "recover"],
            Self::Read => &["read", "recover"],
        }
    }
}

/// Errors of Linux that std gives no kind of their own.
pub const EIO: i32 = 5;
pub const EMFILE: i32 = 24;

/// A fault that has struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Sync,
    SyncDir,
    Write,
    /// A write stops in the middle for want of room.
    WriteWithoutRoom,
    Full,
    /// No file handle is left, for a while.
    NoHandles,
    Refused(Call, i32),
    Death,
}

impl Fault {
    /// What the caller is told.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::NoHandles => io::Error::from_raw_os_error(EMFILE),
            Self::Refused(_, errno) => io::Error::from_raw_os_error(errno),
            Self::Full | Self::WriteWithoutRoom => io::Error::new(ErrorKind::StorageFull, self.told()),
            Self::Sync | Self::SyncDir | Self::Write | Self::Death => io::Error::other(self.told()),
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Sync => "input/output error of a file",
            Self::SyncDir => "input/output error of the directory",
            Self::Write => "the write stopped in the middle",
            Self::WriteWithoutRoom => "no space left for the rest of the write",
            Self::Full => "no space left on device",
            Self::NoHandles | Self::Refused(_, EMFILE) => "(os error 24)",
            Self::Refused(_, EIO) => "(os error 5)",
            Self::Refused(..) => "(os error ",
            Self::Death => "the machine is down",
        }
    }

    /// Whether a failure that is told in these words is due to this fault, as far as they say. Many
    /// calls are refused with the same number, so the words must also say what was tried.
    pub(crate) fn is_named(self, why: &str) -> bool {
        let is_tried = match self {
            Self::Refused(call, _) => call.doing().iter().any(|doing| why.contains(doing)),
            _ => true,
        };
        is_tried && why.contains(self.told())
    }

    /// Whether it passes by itself.
    pub(crate) fn is_shortage(self) -> bool {
        let passes = [Self::Full, Self::WriteWithoutRoom, Self::NoHandles];
        passes.contains(&self) || matches!(self, Self::Refused(_, EMFILE))
    }
}
