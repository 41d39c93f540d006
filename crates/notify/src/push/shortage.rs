//! Shortages of this machine: what it lacks so that a connection could be opened. They say nothing
//! about the endpoint, and pass. To find out, this opens files and sockets, and sends nothing.

use rustix::io::Errno;
use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// Files that a look for a name may have open at once: those that say where to look (`hosts`,
/// `nsswitch.conf`), a socket for each of two servers, and the resolver's own.
const FILES_OF_A_LOOK: usize = 4;

/// Whether nothing could be opened or sent for want of file handles, memory or room in the kernel.
pub(super) fn is_one(error: &io::Error) -> bool {
    let numbers = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN, Errno::NOSPC];
    error.raw_os_error().is_some_and(|raw| numbers.iter().any(|errno| errno.raw_os_error() == raw))
}

/// Whether a connection could not be opened for want of what this machine has: the same, or a free
/// port. "Address not available" is also what a machine without an address of that family says, and
/// that does not pass: then no datagram could be sent there either, whose ports are others.
pub(super) fn kept_from_connecting(error: &io::Error, to: SocketAddr) -> bool {
    if error.kind() != io::ErrorKind::AddrNotAvailable {
        return is_one(error);
    }
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(to)).map_or_else(|error| is_one(&error), |()| true)
}

/// Why a look for a name has failed, if that is for want of file handles: the system's resolver
/// says then that there is no such name. Called just after it.
pub(super) fn kept_from_looking() -> Option<io::Error> {
    let files: io::Result<Vec<File>> = (0..FILES_OF_A_LOOK).map(|_| File::open("/dev/null")).collect();
    files.err().filter(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_endpoint_refuses() {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        for (errno, want) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            // Loopback can be reached, so what lacks is a port.
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::TIMEDOUT, false),
            (Errno::HOSTUNREACH, false),
            (Errno::NETUNREACH, false),
            (Errno::CONNRESET, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(kept_from_connecting(&error, to), want, "{error}");
        }
        // A network of documentation in which no machine has an address (RFC 3849), told that this
        // machine has none of its family: it is the endpoint's unless a datagram could be sent.
        let nowhere: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
        let error = io::Error::from_raw_os_error(Errno::ADDRNOTAVAIL.raw_os_error());
        let is_reached = UdpSocket::bind("[::]:0").and_then(|socket| socket.connect(nowhere)).is_ok();
        assert_eq!(kept_from_connecting(&error, nowhere), is_reached);
        assert!(kept_from_looking().is_none());
    }
}
