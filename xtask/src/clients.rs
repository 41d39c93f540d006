//! How the measuring clients talk to the bench that started them.

use std::{error::Error, io::Write};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

pub fn say(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout();
    out.write_all(format!("{line}\n").as_bytes())?;
    Ok(out.flush()?)
}

/// The next line; `None` at the end of the input, when no further result is wanted.
pub fn hear() -> Outcome<Option<String>> {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}

pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
