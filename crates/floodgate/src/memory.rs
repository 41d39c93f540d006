//! How much memory this process uses, and how much it may use: its control group's limit, or else
//! the machine's memory.

use std::fs;
use std::path::Path;

/// Resident bytes; 0 if the kernel does not say.
pub(crate) fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// The most bytes that the process may use.
pub(crate) fn limit_bytes() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    limit(&read).unwrap_or(u64::MAX)
}

/// The smallest limit of a control group that we are in, of version 2 or 1, and of the machine.
fn limit(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    // HIERARCHY:CONTROLLERS:PATH; version 2 has the hierarchy 0, and no controllers.
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next().unwrap_or("-"), parts.next().unwrap_or("/"));
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // In a container the path may be that of the host, and only the root exists.
        let groups = Path::new(path).ancestors().map(|group| group.strip_prefix("/").unwrap_or(group));
        groups.filter_map(|group| read(&Path::new(root).join(group).join(file))).collect()
    });
    // `max`, which is not a number, means no limit; version 1 has a huge number instead.
    let limits = limits.filter_map(|text| text.trim().parse().ok());
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim();
        line.strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    limits.chain(machine).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_memory_limit_applies() {
        const GROUP_1: &str = "12:cpu,cpuacct:/\n4:memory:/system/one\n0::/\n";
        const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:       2000 kB\nMemFree: 1 kB\n");
        let check = |files: &[(&str, &str)], want: Option<u64>| {
            let read = |path: &Path| {
                files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(limit(&read), want, "{files:?}");
        };
        check(&[], None);
        check(&[MACHINE], Some(2_048_000));
        let two = ("/proc/self/cgroup", "0::/a/b\n");
        check(&[MACHINE, two, ("/sys/fs/cgroup/a/b/memory.max", "max\n")], Some(2_048_000));
        check(&[MACHINE, two, ("/sys/fs/cgroup/a/b/memory.max", "500\n")], Some(500));
        check(&[MACHINE, two, ("/sys/fs/cgroup/a/memory.max", "400\n")], Some(400));
        check(&[MACHINE, two, ("/sys/fs/cgroup/memory.max", "300\n")], Some(300));
        check(&[MACHINE, two, ("/sys/fs/cgroup/memory.max", "3000000\n")], Some(2_048_000));
        let one = ("/proc/self/cgroup", GROUP_1);
        check(
            &[MACHINE, one, ("/sys/fs/cgroup/memory/system/one/memory.limit_in_bytes", "700\n")],
            Some(700),
        );
        let none = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        check(&[MACHINE, one, none], Some(2_048_000));
    }

    #[test]
    fn this_processs_memory_and_limit_can_be_read() {
        let (resident, limit) = (resident_bytes(), limit_bytes());
        assert!(resident > 1 << 20 && resident < limit && limit < u64::MAX, "{resident} of {limit}");
    }
}
