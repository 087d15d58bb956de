//! The real binary as a child process, and whatever else a test starts.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A local address that has no listener now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A configuration with metrics switched off: tests run side by side, and there is one port 8888.
/// One that says something of telemetry is left as it is.
pub(crate) fn quiet(config: &str) -> String {
    const OFF: &str = "telemetry: {metrics: {level: none}}";
    if config.contains("telemetry:") {
        return config.to_owned();
    }
    config
        .replace("\nservice:\n", &format!("\nservice:\n  {OFF}\n"))
        .replace("\nservice: {", &format!("\nservice: {{{OFF}, "))
}

/// A child process whose standard error is collected. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    stderr: Arc<Mutex<String>>,
    /// Its configuration.
    folder: Option<tempfile::TempDir>,
}

impl Process {
    /// Starts `program` with these variables and nothing but them and PATH.
    pub(crate) fn start(program: &Path, arguments: &[&str], variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.envs(variables.iter().map(|(name, value)| (*name, value)));
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let collected = Arc::clone(&stderr);
        #[expect(clippy::disallowed_methods, reason = "the tests have no task tracker")]
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _written = writeln!(collected.lock().unwrap(), "{line}");
            }
        });
        Self {
            child,
            stderr,
            folder: None,
        }
    }

    /// Starts auditwatch with a configuration, made [`quiet`].
    pub(crate) fn auditwatch(config: &Path, variables: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("config.yaml");
        std::fs::write(&copy, quiet(&std::fs::read_to_string(config).unwrap())).unwrap();
        let mut process = Self::auditwatch_as_it_is(&copy, variables);
        process.folder = Some(folder);
        process
    }

    /// Starts auditwatch with exactly this configuration.
    pub(crate) fn auditwatch_as_it_is(config: &Path, variables: &[(&str, String)]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_auditwatch"));
        Self::start(program, &["--config", config.to_str().unwrap()], variables)
    }

    /// What it has written to standard error.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until its standard error holds a text.
    pub(crate) fn wait_for(&self, text: &str, timeout: Duration) {
        let begin = now();
        while !self.stderr().contains(text) {
            assert!(
                begin.elapsed() < timeout,
                "no {text:?} in:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        status(self.pid(), "VmRSS:")
    }

    /// The most resident memory it had since it started, or since [`Self::reset_peak`], in bytes.
    pub(crate) fn peak(&self) -> u64 {
        status(self.pid(), "VmHWM:")
    }

    /// Begins a new measurement of [`Self::peak`].
    pub(crate) fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let begin = now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                begin.elapsed() < timeout,
                "still running:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A line of `/proc/PID/status` that counts kilobytes, in bytes.
fn status(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kilobytes: u64 = value
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {line} in {status}"));
    kilobytes * 1024
}

/// The clock of the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "tests measure how long their peers take"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
