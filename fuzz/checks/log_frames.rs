//! What must hold for any bytes that a segment file might have: opening and reading it comes to an
//! end, panics nowhere, changes nothing, and shows entries only as they are in the file.
//!
//! Shared by the fuzz target and by the test that runs its corpus.

use engines::{
    embedded::{
        ReadOnlyLog,
        frame::{Header, Key, entries},
    },
    log::LogRead,
};
use sim::disk::SimDisk;
use std::ops::ControlFlow;

/// Takes `data` as the first segment of a log.
pub(crate) fn check(data: &[u8]) {
    decode_anywhere(data);
    let disk = SimDisk::new();
    disk.put("seg-00000000000000000001.log", data.to_vec());
    let Ok(mut log) = ReadOnlyLog::open(disk.clone()) else { return };
    let (first, last) = (log.first(), log.last());
    let mut bytes = 0;
    let mut next = first;
    let read = log.read(first, &mut |sequence, entry| {
        assert_eq!(sequence, next);
        next = next.next();
        bytes += entry.len() + 4;
        ControlFlow::Continue(())
    });
    assert_eq!(read.expect("what could be opened can be read"), last);
    assert_eq!(next.0, last.0 + 1);
    assert!(bytes <= data.len(), "{bytes} bytes of entries in {} of file", data.len());
    assert_eq!(disk.operations_count(), 0, "a reader changed something");
}

/// The pure decoders, at every place of the data.
fn decode_anywhere(data: &[u8]) {
    for at in (0..data.len().min(4096)).step_by(8) {
        if let Some(header) = Header::decode(&data[at..], Key::new(&[0; 16]), at as u64) {
            assert!(header.first <= header.last());
            let rest = &data[at + 32..];
            if let Some(body) =
                rest.get(..header.frame_bytes() as usize - 32).and_then(|rest| header.body(rest))
            {
                assert_eq!(entries(body).flatten().count(), header.count as usize);
            }
        }
        let taken: usize = entries(&data[at..]).flatten().map(|entry| entry.len() + 4).sum();
        assert!(taken <= data.len() - at);
    }
}
