//! Memory and CPU time of this process, read from `/proc` where it exists.

use std::{fs, time::Duration};

/// `USER_HZ`, the ticks of a second in `/proc/self/stat`: a constant of Linux's interface.
const TICKS: u64 = 100;

/// Physical memory of the process, in bytes.
pub fn memory() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| resident(&text))
        .unwrap_or(0)
}

/// Processor time of the process so far.
pub fn cpu() -> Duration {
    fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| ticks(&text))
        .map(|ticks| Duration::from_millis(ticks.saturating_mul(1000 / TICKS)))
        .unwrap_or_default()
}

/// Whether the process was started with this signal ignored, as `nohup` does.
pub fn ignores(signal: i32) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|text| is_ignored(&text, signal))
}

fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal - 1).ok();
    let bit = bit.and_then(|bit| 1u64.checked_shl(bit));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

fn ticks(stat: &str) -> Option<u64> {
    // The name of the program may hold anything, so fields are counted behind its bracket.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user.saturating_add(system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t   12 kB\nThreads:\t3\n";
        assert_eq!(resident(status), Some(12 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\n";
        let ignored = [1, 2, 3, 13, 0, -1, 99].map(|signal| is_ignored(status, signal));
        assert_eq!(ignored, [true, true, false, true, false, false, false]);
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn there_is_something_to_read() {
        assert!(memory() > 1024 * 1024);
    }
}
