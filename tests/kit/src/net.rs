//! Network namespaces for tests: an address, and no way out.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Runs a command and returns its standard output; a failure names the command and what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("start {command:?}"))?;
    let out = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(out);
    }
    bail!("{command:?}: {status}\n{out}{}", String::from_utf8_lossy(&stderr));
}

/// A namespace of one machine, removed when dropped. Packets to where no route leads end in a blackhole.
pub struct Network {
    pub name: String,
    pub ip: String,
}

impl Network {
    /// A namespace with the address 172.31.99.1 on a link that leads nowhere.
    pub fn lonely() -> Result<Self> {
        let name = format!("coxt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let network = Self { name, ip: "172.31.99.1".to_owned() };
        network.make()?;
        Ok(network)
    }

    fn make(&self) -> Result<()> {
        run(Command::new("ip").args(["netns", "add", &self.name]))?;
        let address = format!("{}/24", self.ip);
        let steps: [&[&str]; 6] = [
            &["link", "set", "lo", "up"],
            &["link", "add", "eth0", "type", "veth", "peer", "name", "eth0-end"],
            &["address", "add", &address, "dev", "eth0"],
            &["link", "set", "eth0", "up"],
            &["link", "set", "eth0-end", "up"],
            &["route", "add", "blackhole", "default"],
        ];
        for step in steps {
            run(Command::new("ip").args(["-n", &self.name]).args(step))?;
        }
        Ok(())
    }

    /// What a command line begins with to run inside. (`ip netns exec` would hide the cgroups.)
    pub fn entry(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path().display()), "--".to_owned()]
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let entry = self.entry();
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]).arg(program);
        command
    }

    /// A handle on the namespace itself.
    pub fn open(&self) -> Result<std::fs::File> {
        std::fs::File::open(self.path()).with_context(|| format!("open namespace {}", self.name))
    }

    /// The file by which the namespace is entered.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["netns", "delete", &self.name])) {
            eprintln!("network namespace {} is left behind: {error:#}", self.name);
        }
    }
}
